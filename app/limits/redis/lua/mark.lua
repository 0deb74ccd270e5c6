-- Before the ledger is read for an account. ARGV: holder, account, when its window begins (microseconds), who marks it,
-- whose calls it counts, how long (milliseconds) a store that was empty waits for all processes to tell what they hold, 1 if
-- it is new: then no process holds anything of it, and what an earlier one of its name has spent does not count.
-- Gives 1 when it is open and counts the calls of these; 2 when another living process is at it; or 0, the beginning of its
-- window, the milliseconds to wait before the ledger is read, whether calls may end meanwhile. Nothing is marked while
-- there is to be waited.
local OTHERS_TURN_MS = 5000

local now = now_ms()
local account = open_account(ARGV[1], ARGV[2], tonumber(ARGV[3]), now)
local new = ARGV[7] == '1'
if account.spent and account.members == ARGV[5] and not new then return { 1 } end
local age = now - (redis.call('GET', PREFIX .. 'born') or now)
local wait = new and 0 or tonumber(ARGV[6]) - age
local begins = account.begins or tonumber(ARGV[3])
if wait > 0 then return { 0, begins, wait, 1 } end
-- Who marks what another reads for sends him back to the start; many who do that to each other never end.
local found = redis.call('HMGET', account.key, 'mark', 'marked_at')
local reader = found[1] and string.match(found[1], '^[^:]*')
if reader and reader ~= string.match(ARGV[4], '^[^:]*') and now - found[2] < OTHERS_TURN_MS and lives(reader) then
  return { 2 }
end
redis.call('HSET', account.key, 'begins', text(begins), 'mark', ARGV[4], 'marked_at', text(now), 'late', 0)
redis.call('PEXPIRE', account.key, ACCOUNT_KEPT_MS)
return { 0, begins, 0, (account.spent or age < 60000) and 1 or 0 }
