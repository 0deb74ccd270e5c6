-- A call is over. ARGV: process, number, tokens, cost, 1 if it never went upstream, when it began (microseconds), how many
-- milliseconds ago it ended, the accounts that may count it, as JSON (holder -> names), and its request. However often it
-- is told, it counts once. Gives 1, or 0 when it was told before.
local process, number = ARGV[1], ARGV[2]
local tokens, cost, began = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6])

local shares, settled = release(process, number, tokens, cost, ARGV[5] == '1', ARGV[9])
if shares then
  if ARGV[8] ~= '' then spend(cjson.decode(ARGV[8]), began, tokens, cost, settled) end
  return 1
end
if ARGV[8] == '' or redis.call('HEXISTS', calls_key(process), '') == 1 then return 0 end
-- Everything was lost in between. The ledger knows of the call, unless it was read before the call ended.
if not redis.call('SET', PREFIX .. 'o:' .. process .. ':' .. number, 1, 'NX', 'PX', CALLS_KEPT_MS) then return 0 end
spend(cjson.decode(ARGV[8]), began, tokens, cost, {}, now_ms() - tonumber(ARGV[7]))
return 1
