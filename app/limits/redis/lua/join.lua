-- ARGV: a process, the number of its connection, how long it lives unless it says so again, in milliseconds, 1 if it is
-- new, and which run of the server this is. What an earlier connection of it still has under way reserves nothing any more.
-- A server that was started again may have come back with what was true minutes ago: all of that is forgotten.
-- Gives 1, or 0 when this process is not known (any more) and has to take another name.
local key = PREFIX .. 'p:' .. ARGV[1]
if redis.call('GET', PREFIX .. 'run') ~= ARGV[5] then
  for _, old in ipairs(redis.call('KEYS', PREFIX .. '*')) do redis.call('DEL', old) end
  redis.call('SET', PREFIX .. 'run', ARGV[5])
  redis.call('SET', PREFIX .. 'born', text(now_ms()))
end
if ARGV[4] == '1' then
  redis.call('HSET', calls_key(ARGV[1]), '', 1)
elseif redis.call('EXISTS', key) == 0 or redis.call('HEXISTS', calls_key(ARGV[1]), '') == 0 then
  return 0
end
redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
redis.call('PEXPIRE', calls_key(ARGV[1]), CALLS_KEPT_MS)
return 1
