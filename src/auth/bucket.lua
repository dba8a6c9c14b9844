-- The buckets of one caller (src/auth/rates.rs), updated atomically. By Redis's own clock, so that gateways whose
-- clocks differ agree. ARGV: requests and tokens per minute (0: no limit), whether to take a request, tokens to
-- charge. Returns which limit is used up (0 none, 1 requests, 2 tokens) and for how many ms.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local was = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'at')
local at = tonumber(was[3] or now)
local function level(before, most)
  return math.min(most, tonumber(before or most) + math.max(0, now - at) * most / 60)
end
local function missing(has, wanted, most)
  if most == 0 then return 0 end
  return math.max(0, wanted - has) * 60 / most
end
local most = { tonumber(ARGV[1]), tonumber(ARGV[2]) }
local has = { level(was[1], most[1]), level(was[2], most[2]) - tonumber(ARGV[4]) }
local which, wait = 0, 0
if ARGV[3] == '1' then
  for rate = 1, 2 do
    local seconds = missing(has[rate], 1, most[rate])
    if seconds > wait then which, wait = rate, seconds end
  end
  if which == 0 then has[1] = has[1] - 1 end
end
local write, full = { 'at', now }, 0
for rate, name in ipairs({ 'requests', 'tokens' }) do
  if most[rate] > 0 then
    table.insert(write, name)
    table.insert(write, has[rate])
    full = math.max(full, missing(has[rate], most[rate], most[rate]))
  end
end
redis.call('HSET', KEYS[1], unpack(write))
redis.call('EXPIRE', KEYS[1], math.ceil(full) + 1)
return { which, math.ceil(wait * 1000) }
