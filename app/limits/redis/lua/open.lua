-- The ledger was read for an account. ARGV: holder, account, when its window begins, who has marked it, whose calls it
-- counts, what the ledger says was spent; or nothing when it could not be read: then it is another's turn.
-- Counts unless another has marked it since, or a new window has begun. Gives 1 when it counts.
local key = account_key(ARGV[1], ARGV[2])
local found = redis.call('HMGET', key, 'mark', 'begins', 'late', 'marked_at')
if found[1] ~= ARGV[4] or found[2] ~= ARGV[3] then return 0 end
if ARGV[6] == '' then
  redis.call('HDEL', key, 'mark', 'late', 'marked_at')
  return 0
end
redis.call('HSET', key, 'spent', text(tonumber(ARGV[6]) + tonumber(found[3])), 'read_at', found[4], 'members', ARGV[5])
redis.call('HDEL', key, 'mark', 'late', 'marked_at')
return 1
