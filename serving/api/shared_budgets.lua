-- An account that replicas share. KEYS: its buckets, the requests that run (until when each is held).
-- ARGV: what to do, the time in seconds (empty: the server's), the limits (requests and tokens a minute,
-- requests at once), seconds to hold a request; then the requests, or the tokens that were used.
-- Returns: let in, crowded, requests left, tokens left.

local MINUTE, ROUNDING = 60, 1e-6
local act, rpm, tpm, most = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local buckets = KEYS[1]
local known = redis.call('HMGET', buckets, 'at', 'requests', 'tokens')
local passed = math.max(0, now - tonumber(known[1] or now)) / MINUTE
local requests = math.min(rpm, tonumber(known[2] or rpm) + passed * rpm)
local tokens = math.min(tpm, tonumber(known[3] or tpm) + passed * tpm)

local function hold(request)
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[6]), request)
  redis.call('EXPIRE', KEYS[2], math.ceil(tonumber(ARGV[6])))
end

local let_in, crowded = 0, 0
if act == 'enter' then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  if most > 0 and redis.call('ZCARD', KEYS[2]) >= most then crowded = 1 end
  local enough = (rpm == 0 or requests >= 1 - ROUNDING) and (tpm == 0 or tokens >= 1 - ROUNDING)
  if crowded == 0 and enough then
    let_in, requests = 1, requests - 1
    if most > 0 then hold(ARGV[7]) end
  end
elseif act == 'hold' then
  for n = 7, #ARGV do hold(ARGV[n]) end
elseif act == 'leave' then
  redis.call('ZREM', KEYS[2], ARGV[7])
elseif act == 'spend' then
  tokens = tokens - tonumber(ARGV[7])
end

local whole = 2 * MINUTE  -- until both are full again an account is not forgotten
if rpm > 0 then whole = math.max(whole, (rpm - requests) * MINUTE / rpm) end
if tpm > 0 then whole = math.max(whole, (tpm - tokens) * MINUTE / tpm) end
redis.call('HSET', buckets, 'at', string.format('%.6f', now),
  'requests', string.format('%.9f', requests), 'tokens', string.format('%.9f', tokens))
redis.call('EXPIRE', buckets, math.ceil(whole))
return {let_in, crowded, string.format('%.9f', requests), string.format('%.9f', tokens)}
