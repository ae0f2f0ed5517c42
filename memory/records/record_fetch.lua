-- Read rows of records by their numbers; a recall is counted on those that are there.
--
-- `heat` is LRFU's combined recency and frequency (Lee et al. 2001, IEEE Trans. Computers
-- 50(12)): every recall adds 1, and all that was added halves once per half-life.
--
-- KEYS  meta
-- ARGV  row prefix, now, half-life in seconds ('' when this read is no recall),
--       count of fields, field..., number...
-- Returns one JSON list of values per number, '[]' for a number that is not there: parsing
-- one long string takes the client a tenth of the time that many short ones do.
local prefix, now, half_life = ARGV[1], ARGV[2], tonumber(ARGV[3])
local fields = {unpack(ARGV, 5, 4 + tonumber(ARGV[4]))}
local rows = {}
for i = 5 + #fields, #ARGV do
  local key, row = prefix .. ARGV[i], '[]'
  if redis.call('EXISTS', key) == 1 then
    if half_life then
      local was = redis.call('HMGET', key, 'heat', 'heat_at')
      local age = math.max(tonumber(now) - tonumber(was[2] or now), 0)
      local heat = 1 + tonumber(was[1] or 0) * 2 ^ (-age / half_life)
      redis.call('HINCRBY', key, 'recalls', 1)
      redis.call('HSET', key, 'recalled_at', now, 'heat', string.format('%.6f', heat),
        'heat_at', now)
    end
    local values = redis.call('HMGET', key, unpack(fields))
    for j = 1, #fields do values[j] = values[j] or '' end
    row = cjson.encode(values)
  end
  rows[#rows + 1] = row
end
return rows
