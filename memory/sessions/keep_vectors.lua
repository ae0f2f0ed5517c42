-- Keep embeddings of steps that are still there: what was erased meanwhile leaves no vector.
--
-- KEYS  the session's fixed keys (see keys.py)
-- ARGV  mark (whose vectors these are), then per step: seq vector
local log, vectors = KEYS[2], KEYS[13]
for i = 2, #ARGV, 2 do
  local id = ARGV[i] .. '-0'
  if #redis.call('XRANGE', log, id, id) == 1 then
    redis.call('HSET', vectors, ARGV[i], ARGV[1] .. ARGV[i + 1])
  end
end
return 1
