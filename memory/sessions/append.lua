-- Append steps to a session: all of them or none, each id once, in one atomic call.
-- The work depends on the steps sent, never on how many the session holds: a posting is
-- appended to a string, which costs the same at any length.
--
-- KEYS  the session's fixed keys (see keys.py), then one posting list per distinct term
-- ARGV  posting prefix, now, number of fixed keys, count, then per step:
--       id digest pin asks tokens length answers ncalls call... step nterms (key occurrences)...
-- Returns {'ok', version, 'seq:tokens', ...} or {problem, what}.
-- A posting is 8 bytes, big-endian: step (4), occurrences (2), the step's length (2).
local meta, log, ids, pins, open, groups, terms =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local deleted, once = KEYS[12], KEYS[15]
local MOST = 65535

local at = 0
local function take()
  at = at + 1
  return ARGV[at]
end
local function take_many()
  local many = {}
  for i = 1, tonumber(take()) do many[i] = take() end
  return many
end

if redis.call('HEXISTS', meta, 'forgotten_at') == 1 then return {'forgotten', ''} end

local prefix, now, fixed = take(), take(), tonumber(take())
local steps = {}
for i = 1, tonumber(take()) do
  local step = {id = take(), digest = take(), pin = take(), asks = take() == '1',
    tokens = tonumber(take()),
    length = tonumber(take()), answers = take()}
  step.calls = take_many()
  step.json = take()
  step.terms = take_many()
  steps[i] = step
end

-- First look at everything, so that nothing is written when one step is wrong.
local opened = {}
for _, step in ipairs(steps) do
  local known = redis.call('HGET', ids, step.id)
  if known == 'gone' then return {'gone', step.id} end
  if known then
    local digest = string.match(known, '^%d+:%d+:(.*)$')
    if digest ~= step.digest then return {'conflict', step.id} end
    step.known = string.match(known, '^(%d+:%d+):')
  else
    if step.answers ~= '' then
      local waiting = opened[step.answers]
      if waiting == nil then waiting = redis.call('HEXISTS', open, step.answers) == 1 end
      if not waiting then return {'orphan', step.answers} end
      opened[step.answers] = false
    end
    for _, call in ipairs(step.calls) do opened[call] = true end
  end
end

-- A system prompt that comes with every turn, or a rule said again, is pinned once.
local function pinned_already(digest)
  local seq = redis.call('HGET', once, digest)
  return seq and redis.call('HEXISTS', pins, seq) == 1 and redis.call('HEXISTS', deleted, seq) == 0
end

local version = tonumber(redis.call('HGET', meta, 'version') or 0)
local reply, added, tokens, length = {'ok', version}, 0, 0, 0
for _, step in ipairs(steps) do
  if not step.known then
    local seq = redis.call('HINCRBY', meta, 'seq', 1)
    local entry = {'step', step.json, 'version', version + 1}
    if step.answers ~= '' then
      local call = redis.call('HGET', open, step.answers)
      redis.call('HDEL', open, step.answers)
      local group = redis.call('HGET', groups, call)
      redis.call('HSET', groups, call, (group and group .. ',' or '') .. seq)
      -- The result of a deleted call is deleted with it, so that no half of a pair is left.
      local gone = redis.call('HGET', deleted, call)
      if gone then redis.call('HSET', deleted, seq, gone) end
      table.insert(entry, 'group')
      table.insert(entry, call)
    end
    redis.call('XADD', log, seq .. '-0', unpack(entry))
    step.known = seq .. ':' .. step.tokens
    redis.call('HSET', ids, step.id, step.known .. ':' .. step.digest)
    if step.asks then redis.call('HSET', meta, 'asked', seq) end
    if step.pin == 'user' then
      redis.call('HSET', pins, seq, step.pin)
    elseif step.pin ~= '' and not pinned_already(step.digest) then
      redis.call('HSET', pins, seq, step.pin)
      redis.call('HSET', once, step.digest, seq)
    end
    for _, call in ipairs(step.calls) do redis.call('HSET', open, call, seq) end
    local size = math.min(step.length, MOST)
    for i = 1, #step.terms, 2 do
      local count = math.min(tonumber(step.terms[i + 1]), MOST)
      redis.call('APPEND', KEYS[tonumber(step.terms[i])], struct.pack('>I4I2I2', seq, count, size))
    end
    added, tokens, length = added + 1, tokens + step.tokens, length + step.length
  end
  table.insert(reply, step.known)
end

if added > 0 then
  local names = {}
  for i = fixed + 1, #KEYS do
    table.insert(names, string.sub(KEYS[i], #prefix + 1))
    if #names == 1000 or i == #KEYS then
      redis.call('SADD', terms, unpack(names))
      names = {}
    end
  end
  redis.call('HSETNX', meta, 'created_at', now)
  redis.call('HSET', meta, 'updated_at', now)
  redis.call('HINCRBY', meta, 'docs', added)
  redis.call('HINCRBY', meta, 'tokens', tokens)
  redis.call('HINCRBY', meta, 'length', length)
  reply[2] = redis.call('HINCRBY', meta, 'version', 1)
end
return reply
