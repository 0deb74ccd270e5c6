-- Take everything that a call wants of all its limits, or nothing. ARGV: the ask as JSON
--   {process, line, number, request, tokens, cost, last, holders = {{name, rpm, tpm, slots, budgets = {{name, begins, amount}}}}}
-- Gives  0, tokens and cost set aside, readings          granted
--        1, what, holder, wait, budget, spent, reserved, beyond, readings     refused; places count from 0
--        2                                               this process, or this connection of it, is not known
--        3, holder                                       an account is shut
-- readings: used and reset for each rate, holder by holder.
local REQUESTS, TOKENS, CONCURRENCY, BUDGET, SLOT_WAIT_MS = 0, 1, 2, 3, 1000

local ask = cjson.decode(ARGV[1])
local now = now_ms()
if redis.call('GET', PREFIX .. 'p:' .. ask.process) ~= ask.line then return { 2 } end
known[ask.process] = true

local states = {}
for place, holder in ipairs(ask.holders) do
  local state = { slots = slots_taken(holder.name), accounts = {} }
  if holder.rpm then state.requests = open_rate(PREFIX .. 'r:' .. holder.name, now) end
  if holder.tpm then state.tokens = open_rate(PREFIX .. 't:' .. holder.name, now) end
  for i, budget in ipairs(holder.budgets) do
    local account = open_account(holder.name, budget.name, budget.begins, now)
    if not account.spent then return { 3, place - 1 } end
    account.wanted = string.sub(budget.name, 1, 3) == 'usd' and ask.cost or ask.tokens
    account.left = math.max(0, budget.amount - account.spent - account.reserved - account.beyond)
    state.accounts[i] = account
  end
  states[place] = state
end

local function with_readings(answer)
  for _, state in ipairs(states) do
    for _, rate in ipairs({ state.requests or state.tokens, state.requests and state.tokens }) do
      answer[#answer + 1] = rate.used
      answer[#answer + 1] = reset_ms(rate, now)
    end
  end
  return answer
end

local longest, what, whose = 0, REQUESTS, 0
local function in_the_way(wait, limit, place)
  if wait > longest then longest, what, whose = wait, limit, place - 1 end
end

for place, holder in ipairs(ask.holders) do
  local state = states[place]
  for i, budget in ipairs(holder.budgets) do
    local account = state.accounts[i]
    local least = ask.last and math.min(account.wanted, 1) or account.wanted
    if account.spent >= budget.amount or account.left < least then
      return with_readings({ 1, BUDGET, place - 1, 0, i - 1, account.spent, account.reserved, account.beyond })
    end
  end
  if state.requests then in_the_way(wait_ms(state.requests, 1, holder.rpm, now), REQUESTS, place) end
  if state.tokens then
    in_the_way(wait_ms(state.tokens, math.min(ask.tokens, holder.tpm), holder.tpm, now), TOKENS, place)
  end
  if holder.slots and state.slots >= holder.slots then in_the_way(SLOT_WAIT_MS, CONCURRENCY, place) end
end
if longest > 0 then return with_readings({ 1, what, whose, longest, 0, 0, 0, 0 }) end

local shares, tokens, cost = {}, ask.tokens, ask.cost
for place, holder in ipairs(ask.holders) do
  local state = states[place]
  local share = { name = holder.name, holds = {} }
  take_slot(holder.name, ask.process)
  if state.requests then share.requests = take(state.requests, 1, now) end
  if state.tokens then
    share.taken = math.min(ask.tokens, holder.tpm)
    share.tokens = take(state.tokens, share.taken, now)
  end
  for i, budget in ipairs(holder.budgets) do
    local account, usd = state.accounts[i], string.sub(budget.name, 1, 3) == 'usd'
    local amount = math.min(account.wanted, account.left)
    hold(account, ask.process, amount, account.wanted)
    share.holds[i] = { name = budget.name, begins = account.begins, amount = amount, worst = account.wanted, usd = usd }
    if usd then cost = math.min(cost, amount) else tokens = math.min(tokens, amount) end
  end
  shares[place] = share
end
keep(ask.process, ask.number, shares, ask.request)
return with_readings({ 0, tokens, cost })
