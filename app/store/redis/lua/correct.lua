-- The books have told what a call came to. ARGV: a name for this correction, which counts once; when the call began
-- (microseconds); tokens and cost that it came to beyond what was counted; accounts as in settle.lua.
if not redis.call('SET', PREFIX .. 'o:' .. ARGV[1], 1, 'NX', 'PX', CALLS_KEPT_MS) then return 0 end
spend(cjson.decode(ARGV[5]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), {})
return 1
