-- A process lives as long as `p:NAME` does. A name is never used again: who has missed his time comes back with another.
local PREFIX = 'weighbridge:'
local SLOTS_KEPT_MS = 86400000

local known = {}
local function lives(process)
  if known[process] == nil then known[process] = redis.call('EXISTS', PREFIX .. 'p:' .. process) == 1 end
  return known[process]
end

-- Numbers as text: Lua's own way writes 1e+15, and -0.
local function text(number) return string.format('%.0f', number + 0) end

-- The calls that living processes have under way. Those of the dead are forgotten.
local function slots_taken(holder)
  local key, taken = PREFIX .. 's:' .. holder, 0
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    if lives(fields[i]) then taken = taken + fields[i + 1] else redis.call('HDEL', key, fields[i]) end
  end
  return taken
end

local function take_slot(holder, process)
  redis.call('HINCRBY', PREFIX .. 's:' .. holder, process, 1)
  redis.call('PEXPIRE', PREFIX .. 's:' .. holder, SLOTS_KEPT_MS)
end

local function free_slot(holder, process)
  local key = PREFIX .. 's:' .. holder
  if redis.call('HEXISTS', key, process) == 1 and redis.call('HINCRBY', key, process, -1) <= 0 then
    redis.call('HDEL', key, process)
  end
end
