-- What each call has taken: a hash for each process, `c:NAME`, from the call's number to its shares. The empty field is
-- there as long as nothing of it was lost. It outlives its process, so that a late end still corrects what was counted.
local CALLS_KEPT_MS = 86400000

local function calls_key(process) return PREFIX .. 'c:' .. process end

-- Undo what a call holds, and count what it came to. Gives nil when there is no such call (any more).
local function release(process, number, tokens, cost, back)
  local packed = redis.call('HGET', calls_key(process), number)
  if not packed then return nil end
  redis.call('HDEL', calls_key(process), number)
  local shares, settled = cmsgpack.unpack(packed), {}
  for _, share in ipairs(shares) do
    free_slot(share.name, process)
    if share.requests and back then correct_rate(PREFIX .. 'r:' .. share.name, share.requests, -1) end
    if share.tokens then correct_rate(PREFIX .. 't:' .. share.name, share.tokens, tokens - share.taken) end
    for _, held in ipairs(share.holds) do
      local key = account_key(share.name, held.name)
      settle_hold(key, process, held.begins, held.amount, held.worst, held.usd and cost or tokens)
      settled[key] = true
    end
  end
  return shares, settled
end

local function keep(process, number, shares)
  redis.call('HSET', calls_key(process), number, cmsgpack.pack(shares))
end
