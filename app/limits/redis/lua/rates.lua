-- What was taken within the last minute, in parts of a quarter of a second: as app/domain/money/rates.py, which says why.
-- A hash: the number of a part -> units; `used` is their sum, no part is before `old`, `new` is the last one.
local PART_MS, PARTS = 250, 240

local function open_rate(key, now)
  local found = redis.call('HMGET', key, 'used', 'old', 'new')
  local rate = { key = key, used = tonumber(found[1]) or 0, old = tonumber(found[2]), new = tonumber(found[3]) }
  local oldest = math.floor(now / PART_MS) - PARTS
  if rate.new and rate.new < oldest then
    redis.call('DEL', key)
    return { key = key, used = 0 }
  end
  if rate.old and rate.old < oldest then
    local parts = {}
    for number = rate.old, oldest - 1 do parts[#parts + 1] = number end
    for _, units in ipairs(redis.call('HMGET', key, unpack(parts))) do rate.used = rate.used - (tonumber(units) or 0) end
    redis.call('HDEL', key, unpack(parts))
    rate.old = oldest
    redis.call('HSET', key, 'used', text(rate.used), 'old', oldest)
  end
  return rate
end

local function end_of(part, now) return (part + PARTS + 1) * PART_MS - now end

local function wait_ms(rate, units, limit, now)
  local excess = rate.used + units - limit
  if excess <= 0 then return 0 end
  if rate.old then
    local parts = {}
    for number = rate.old, rate.new do parts[#parts + 1] = number end
    for i, taken in ipairs(redis.call('HMGET', rate.key, unpack(parts))) do
      excess = excess - (tonumber(taken) or 0)
      if excess <= 0 then return end_of(parts[i], now) end
    end
  end
  return PARTS * PART_MS
end

local function reset_ms(rate, now) return rate.new and end_of(rate.new, now) or 0 end

-- Gives the part in which it counts.
local function take(rate, units, now)
  local part = math.max(math.floor(now / PART_MS), rate.new or 0)
  rate.used, rate.old, rate.new = rate.used + units, rate.old or part, part
  redis.call('HINCRBY', rate.key, part, text(units))
  redis.call('HSET', rate.key, 'used', text(rate.used), 'old', rate.old, 'new', part)
  redis.call('PEXPIRE', rate.key, (PARTS + 2) * PART_MS)
  return part
end

local function correct_rate(key, part, units)
  if units ~= 0 and redis.call('HEXISTS', key, part) == 1 then
    redis.call('HINCRBY', key, part, text(units))
    redis.call('HINCRBY', key, 'used', text(units))
  end
end
