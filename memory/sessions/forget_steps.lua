-- Erase single steps. A call and its results are erased together. With
-- them goes what was made from them: summary nodes and embeddings.
-- The stream is written anew without them, because XDEL only marks an entry and leaves
-- its bytes in memory and snapshots. Cost: the session's length; erasure is rare.
--
-- KEYS  the session's fixed keys (see keys.py)
-- ARGV  posting prefix, now, due, seq...; with due = '1' the steps are those whose deletion
--       has become final, and none need be named
-- Returns {'ok', erased} or {problem, what}.
local meta, log, ids, pins, open, groups, terms =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local nodes, changes, deleted, vectors = KEYS[10], KEYS[11], KEYS[12], KEYS[13]

if redis.call('EXISTS', meta) == 0 then return {'unknown', ''} end
if redis.call('HEXISTS', meta, 'forgotten_at') == 1 then return {'forgotten', ''} end

local named = {}
for i = 4, #ARGV do table.insert(named, ARGV[i]) end
if ARGV[3] == '1' then
  local waiting = redis.call('HGETALL', deleted)
  for i = 1, #waiting, 2 do
    if tonumber(waiting[i + 1]) <= tonumber(ARGV[2]) then table.insert(named, waiting[i]) end
  end
  if #named == 0 then return {'ok', 0} end
end

local doomed = {}
for _, seq in ipairs(named) do
  local id = seq .. '-0'
  local found = redis.call('XRANGE', log, id, id)[1]
  if not found then return {'missing', seq} end
  local root = seq
  for j = 1, #found[2], 2 do
    if found[2][j] == 'group' then root = found[2][j + 1] end
  end
  doomed[root] = true
  for member in string.gmatch(redis.call('HGET', groups, root) or '', '%d+') do
    doomed[member] = true
  end
end

local fresh = log .. ':fresh'
local erased, tokens, length, from = 0, 0, 0, '-'
while true do
  local page = redis.call('XRANGE', log, from, '+', 'COUNT', 500)
  if #page == 0 then break end
  for _, entry in ipairs(page) do
    local seq = string.match(entry[1], '^%d+')
    if doomed[seq] then
      local step
      for j = 1, #entry[2], 2 do
        if entry[2][j] == 'step' then step = cjson.decode(entry[2][j + 1]) end
      end
      erased, tokens, length = erased + 1, tokens + step.tokens, length + step.length
      redis.call('HSET', ids, step.id, 'gone')
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
local gone, marks = {}, {}
for seq in pairs(doomed) do
  table.insert(gone, seq)
  table.insert(marks, struct.pack('>I4', tonumber(seq)))
  for _, key in ipairs({pins, groups, deleted, vectors}) do redis.call('HDEL', key, seq) end
end

local held = redis.call('HGETALL', nodes)
for i = 1, #held, 2 do
  for _, seq in ipairs(cjson.decode(held[i + 1]).sources) do
    if doomed[tostring(seq)] then
      redis.call('HDEL', nodes, held[i])
      break
    end
  end
end

for _, term in ipairs(redis.call('SMEMBERS', terms)) do
  local key = ARGV[1] .. term
  local list, hit = redis.call('GET', key) or '', false
  -- A plain find is far quicker than looking at every posting, and most lists have no hit.
  for _, mark in ipairs(marks) do hit = hit or string.find(list, mark, 1, true) end
  if hit then
    local left = {}
    for at = 1, #list, 8 do
      local seq = struct.unpack('>I4', list, at)
      if not doomed[tostring(seq)] then table.insert(left, string.sub(list, at, at + 7)) end
    end
    if #left == 0 then
      redis.call('DEL', key)
      redis.call('SREM', terms, term)
    else
      redis.call('SET', key, table.concat(left))
    end
  end
end

redis.call('HINCRBY', meta, 'docs', -erased)
redis.call('HINCRBY', meta, 'tokens', -tokens)
redis.call('HINCRBY', meta, 'length', -length)
redis.call('HINCRBY', meta, 'forgotten', erased)
local version = redis.call('HINCRBY', meta, 'version', 1)
redis.call('HSET', meta, 'updated_at', ARGV[2], 'changed', version)
redis.call('XADD', changes, version .. '-0', 'kind', 'forget', 'at', ARGV[2],
  'undoes', '', 'steps', erased)
return {'ok', erased}
