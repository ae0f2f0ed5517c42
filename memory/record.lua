-- Put or drop one record, with its posting lists, atomically.
--
-- KEYS  data meta terms order gone, then one posting list per term
-- ARGV  prefix of the postings, prefix of the per-user lists, id, tombstone ('' or now), now,
--       json ('' drops), user, length, packed...
-- Returns 1 when there was such a record before, else 0; -1 when its id was forgotten.
-- `meta` holds docs and length; `<id>` rows in `terms` say what to take back on a change.
local data, meta, terms, order, gone = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local postings, users, id, tombstone, now, json, user, length =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])

if json ~= '' and redis.call('HEXISTS', gone, id) == 1 then return -1 end

local old = redis.call('HGET', terms, id)
if old then
  local was = cjson.decode(old)
  for _, term in ipairs(was.terms) do redis.call('HDEL', postings .. term, id) end
  if was.user ~= '' then redis.call('ZREM', users .. was.user, id) end
  redis.call('HINCRBY', meta, 'docs', -1)
  redis.call('HINCRBY', meta, 'length', -was.length)
end

if json == '' then
  redis.call('HDEL', data, id)
  redis.call('HDEL', terms, id)
  redis.call('ZREM', order, id)
  if tombstone ~= '' then redis.call('HSET', gone, id, tombstone) end
  return old and 1 or 0
end

local names = {}
for i = 6, #KEYS do
  redis.call('HSET', KEYS[i], id, ARGV[8 + i - 5])
  table.insert(names, string.sub(KEYS[i], #postings + 1))
end
local row = {terms = names, user = user, length = length}
redis.call('HSET', terms, id, cjson.encode(row))
redis.call('HSET', data, id, json)
redis.call('ZADD', order, 'NX', now, id)
if user ~= '' then redis.call('ZADD', users .. user, redis.call('ZSCORE', order, id), id) end
redis.call('HINCRBY', meta, 'docs', 1)
redis.call('HINCRBY', meta, 'length', length)
return old and 1 or 0
