-- The books have told what a call came to. ARGV: its request, of which that counts once; when the call began
-- (microseconds); tokens and cost that it came to beyond what was counted; accounts as in settle.lua; 1 if it was given up
-- for its process, and so was to count for its worst case.
if ARGV[6] == '1' and redis.call('EXISTS', open_key(ARGV[1])) == 0 then return 0 end
if not redis.call('SET', told_key(ARGV[1]), ARGV[6], 'NX', 'PX', CALLS_KEPT_MS) then return 0 end
spend(cjson.decode(ARGV[5]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), {})
return 1
