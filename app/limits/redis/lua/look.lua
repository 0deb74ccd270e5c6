-- How a holder stands. ARGV: the holder as in reserve.lua, as JSON.
-- Gives 0, slots, used and reset of each rate, spent, reserved, beyond and
-- beginning of each budget; or 3 when one is shut.
local holder = cjson.decode(ARGV[1])
local now = now_ms()
local answer = { 0, slots_taken(holder.name) }
for _, kind in ipairs({ holder.rpm and 'r:' or '', holder.tpm and 't:' or '' }) do
  if kind ~= '' then
    local rate = open_rate(PREFIX .. kind .. holder.name, now)
    answer[#answer + 1] = rate.used
    answer[#answer + 1] = reset_ms(rate, now)
  end
end
for _, budget in ipairs(holder.budgets) do
  local account = open_account(holder.name, budget.name, budget.begins, now)
  if not account.spent then return { 3 } end
  answer[#answer + 1] = account.spent
  answer[#answer + 1] = account.reserved
  answer[#answer + 1] = account.beyond
  answer[#answer + 1] = account.begins
end
return answer
