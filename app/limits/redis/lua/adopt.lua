-- A call that a process has under way holds the same under the process's new name, whether or not there is room: it goes
-- on anyway. ARGV: the ask of reserve.lua, and the name under which the call was let in. Accounts may be shut.
local ask = cjson.decode(ARGV[1])
local now = now_ms()
if redis.call('GET', PREFIX .. 'p:' .. ask.process) ~= ask.line then return 2 end
if redis.call('HEXISTS', calls_key(ask.process), ask.number) == 1 then return 0 end
known[ask.process] = true

local packed = redis.call('HGET', calls_key(ARGV[2]), ask.number)
local before = packed and cmsgpack.unpack(packed) or {}
if packed then
  for _, share in ipairs(before) do -- its rates stay taken
    free_slot(share.name, ARGV[2])
    for _, held in ipairs(share.holds) do
      settle_hold(account_key(share.name, held.name), ARGV[2], held.begins, held.amount, held.worst, 0)
    end
  end
  redis.call('HDEL', calls_key(ARGV[2]), ask.number)
end

local shares = {}
for place, holder in ipairs(ask.holders) do
  local was = before[place] or {}
  local share = { name = holder.name, requests = was.requests, tokens = was.tokens, taken = was.taken, holds = {} }
  take_slot(holder.name, ask.process)
  for _, budget in ipairs(holder.budgets) do
    local account = open_account(holder.name, budget.name, budget.begins, now)
    if not account.begins then
      redis.call('HSET', account.key, 'begins', text(budget.begins))
      account.begins = budget.begins
    end
    if account.begins == budget.begins then
      local usd = string.sub(budget.name, 1, 3) == 'usd'
      local amount = usd and ask.cost or ask.tokens
      hold(account, ask.process, amount, amount)
      table.insert(share.holds, { name = budget.name, begins = budget.begins, amount = amount, worst = amount, usd = usd })
    end
  end
  shares[place] = share
end
keep(ask.process, ask.number, shares, ask.request)
return 1
