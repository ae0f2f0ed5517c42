-- Erase single steps. A call and its results go together: half a pair helps nobody.
-- The stream is written anew without them, because XDEL only marks an entry and leaves
-- its bytes in memory and snapshots. Cost: the session's length; erasure is rare.
--
-- KEYS  meta log ids pins open groups terms
-- ARGV  posting prefix, now, seq...
-- Returns {'ok', erased} or {problem, what}.
local meta, log, ids, pins, open, groups, terms =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]

if redis.call('EXISTS', meta) == 0 then return {'unknown', ''} end
if redis.call('HEXISTS', meta, 'forgotten_at') == 1 then return {'forgotten', ''} end

local doomed = {}
for i = 3, #ARGV do
  local id = ARGV[i] .. '-0'
  local found = redis.call('XRANGE', log, id, id)[1]
  if not found then return {'missing', ARGV[i]} end
  local root = ARGV[i]
  for j = 1, #found[2], 2 do
    if found[2][j] == 'group' then root = found[2][j + 1] end
  end
  doomed[root] = true
  for seq in string.gmatch(redis.call('HGET', groups, root) or '', '%d+') do doomed[seq] = true end
  redis.call('HDEL', groups, root)
end

local fresh = log .. ':fresh'
local erased, tokens, length, from = 0, 0, 0, '-'
while true do
  local page = redis.call('XRANGE', log, from, '+', 'COUNT', 500)
  if #page == 0 then break end
  for _, entry in ipairs(page) do
    local seq = string.match(entry[1], '^%d+')
    if doomed[seq] then
      local step = {}
      for j = 1, #entry[2], 2 do step[entry[2][j]] = entry[2][j + 1] end
      erased, tokens = erased + 1, tokens + tonumber(step.tokens)
      length = length + tonumber(step.length)
      redis.call('HSET', ids, step.id, 'gone')
      redis.call('HDEL', pins, seq)
    else
      redis.call('XADD', fresh, entry[1], unpack(entry[2]))
    end
  end
  from = '(' .. page[#page][1]
end
redis.call('DEL', log)
if redis.call('EXISTS', fresh) == 1 then redis.call('RENAME', fresh, log) end

local waiting = redis.call('HGETALL', open)
for i = 1, #waiting, 2 do
  if doomed[waiting[i + 1]] then redis.call('HDEL', open, waiting[i]) end
end
local gone = {}
for seq in pairs(doomed) do table.insert(gone, seq) end
for _, term in ipairs(redis.call('SMEMBERS', terms)) do
  local key = ARGV[1] .. term
  if redis.call('HDEL', key, unpack(gone)) > 0 and redis.call('EXISTS', key) == 0 then
    redis.call('SREM', terms, term)
  end
end
redis.call('HINCRBY', meta, 'docs', -erased)
redis.call('HINCRBY', meta, 'tokens', -tokens)
redis.call('HINCRBY', meta, 'length', -length)
redis.call('HINCRBY', meta, 'forgotten', erased)
redis.call('HINCRBY', meta, 'version', 1)
redis.call('HSET', meta, 'updated_at', ARGV[2])
return {'ok', erased}
