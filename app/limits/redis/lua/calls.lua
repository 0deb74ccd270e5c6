-- What each call has taken: a hash for each process, `c:NAME`, from the call's number to its shares. The empty field is
-- there as long as nothing of it was lost. It outlives its process, so that a late end still corrects what was counted.
local CALLS_KEPT_MS = 86400000

local function calls_key(process) return PREFIX .. 'c:' .. process end

-- While a call counts for its worst case, held or (its process is dead) spent. What books tell of a call that was given up
-- for its process is a correction of that. A process that was only cut off may settle the call before or after. What has
-- told is kept by request: 1 of a call that was given up.
local function open_key(request) return PREFIX .. 'q:' .. request end
local function told_key(request) return PREFIX .. 'o:books:' .. request end

local function budgeted(shares)
  for _, share in ipairs(shares) do
    if next(share.holds) then return true end
  end
  return false
end

-- Undo what a call holds, and count what it came to: of a call that books have told of, its worst case, which that has
-- corrected. Gives nil when there is no such call (any more).
local function release(process, number, tokens, cost, back, request)
  local packed = redis.call('HGET', calls_key(process), number)
  if not packed then return nil end
  redis.call('HDEL', calls_key(process), number)
  local shares, settled, told = cmsgpack.unpack(packed), {}, false
  if budgeted(shares) then
    redis.call('DEL', open_key(request))
    told = redis.call('GET', told_key(request)) == '1'
  end
  for _, share in ipairs(shares) do
    free_slot(share.name, process)
    if share.requests and back then correct_rate(PREFIX .. 'r:' .. share.name, share.requests, -1) end
    if share.tokens then correct_rate(PREFIX .. 't:' .. share.name, share.tokens, tokens - share.taken) end
    for _, held in ipairs(share.holds) do
      local key = account_key(share.name, held.name)
      settle_hold(key, process, held.begins, held.amount, held.worst, told and held.worst or held.usd and cost or tokens)
      settled[key] = true
    end
  end
  return shares, settled
end

local function keep(process, number, shares, request)
  if budgeted(shares) then redis.call('SET', open_key(request), 1, 'PX', CALLS_KEPT_MS) end
  redis.call('HSET', calls_key(process), number, cmsgpack.pack(shares))
end
