-- An account of a budget. A hash:
--   begins    the window's first microsecond; a window is only ever followed by a later one
--   spent     not there: shut, until somebody has looked into the ledger
--   h:P, w:P  what the calls of process P hold, and the most that they may come to; what lies between is kept free
--   mark, marked_at, late   somebody reads the ledger: who, since when, and what was spent meanwhile
--   read_at   when the ledger was read (milliseconds); what ended later is not in what it said
--   members   whose calls it counts
-- What the calls of a dead process may have come to counts as spent, as the open rows that it left in the ledger do.
local ACCOUNT_KEPT_MS, EARLY_US = 40 * 86400000, 60000000

local function account_key(holder, name) return PREFIX .. 'a:' .. holder .. ':' .. name end

local function add_spent(key, amount)
  if redis.call('HEXISTS', key, 'spent') == 1 then
    redis.call('HINCRBY', key, 'spent', text(amount))
    if redis.call('HEXISTS', key, 'mark') == 0 then return end
  end
  if redis.call('HEXISTS', key, 'mark') == 1 then redis.call('HINCRBY', key, 'late', text(amount)) end
end

local function begin_window(key, fields, begins)
  for name in pairs(fields) do
    local kind = string.sub(name, 1, 2)
    if kind == 'h:' or kind == 'w:' then redis.call('HDEL', key, name) end
  end
  redis.call('HSET', key, 'begins', text(begins))
  if fields.spent then redis.call('HSET', key, 'spent', 0) end
  if fields.mark then redis.call('HDEL', key, 'mark', 'late') end
  redis.call('PEXPIRE', key, ACCOUNT_KEPT_MS)
  return { key = key, begins = begins, spent = fields.spent and 0, reserved = 0, beyond = 0, members = fields.members }
end

-- The account as it is in the window that begins then, or in a later one if it is there already. No server's clock
-- begins a window more than a minute before ours would.
local function open_account(holder, name, begins, now)
  local key = account_key(holder, name)
  local raw, fields = redis.call('HGETALL', key), {}
  for i = 1, #raw, 2 do fields[raw[i]] = raw[i + 1] end
  local has = tonumber(fields.begins)
  if has and begins > has and begins <= now * 1000 + EARLY_US then return begin_window(key, fields, begins) end
  local spent = tonumber(fields.spent)
  local account = { key = key, begins = has, spent = spent, reserved = 0, beyond = 0, members = fields.members }
  for field, amount in pairs(fields) do
    if string.sub(field, 1, 2) == 'h:' then
      local process = string.sub(field, 3)
      local worst = tonumber(fields['w:' .. process]) or 0
      if account.spent and not lives(process) then
        redis.call('HDEL', key, field, 'w:' .. process)
        add_spent(key, worst)
        account.spent = account.spent + worst
      else
        account.reserved = account.reserved + amount
        account.beyond = account.beyond + worst - amount
      end
    end
  end
  return account
end

local function hold(account, process, amount, worst)
  redis.call('HINCRBY', account.key, 'h:' .. process, text(amount))
  redis.call('HINCRBY', account.key, 'w:' .. process, text(worst))
  redis.call('PEXPIRE', account.key, ACCOUNT_KEPT_MS)
end

-- The call came to so much: what it held is free, or what it was thought to have spent is taken back.
local function settle_hold(key, process, begins, amount, worst, came_to)
  if tonumber(redis.call('HGET', key, 'begins')) ~= begins then return end
  if redis.call('HEXISTS', key, 'w:' .. process) == 0 then
    add_spent(key, came_to - worst)
    return
  end
  local holds = redis.call('HINCRBY', key, 'h:' .. process, text(-amount))
  local worsts = redis.call('HINCRBY', key, 'w:' .. process, text(-worst))
  if holds == 0 and worsts == 0 then redis.call('HDEL', key, 'h:' .. process, 'w:' .. process) end
  add_spent(key, came_to)
end

-- Count it in these accounts (holder -> names), but for those in `but` (keys) and those whose window began later.
local function spend(accounts, at, tokens, cost, but, since)
  for holder, names in pairs(accounts) do
    for _, name in ipairs(names) do
      local key = account_key(holder, name)
      if not but[key] then
        local found = redis.call('HMGET', key, 'begins', 'read_at')
        local told = since and (tonumber(found[2]) or math.huge) >= since
        if found[1] and at >= tonumber(found[1]) and not told then
          add_spent(key, string.sub(name, 1, 3) == 'usd' and cost or tokens)
        end
      end
    end
  end
end
