-- Change what the view shows, and write down that it was changed, in one atomic call.
-- Nothing of the log is touched. Every change but an append goes through here, so the
-- stream of changes can be walked backwards to any earlier view.
--
-- KEYS  the session's fixed keys (see keys.py)
-- ARGV  now, undoes ('' or the version whose change this takes back), kind, then by kind:
--   pin seq reason | unpin seq | delete until seq... | restore seq...
--   switch from to                  the plan in force; '' is none
--   compact seen header decisions keep (node json)...
--                                   a new plan, refused when the view changed after version `seen`
-- Returns {'ok', version, ...} or {problem, what}.
local meta, log, pins, groups = KEYS[1], KEYS[2], KEYS[4], KEYS[6]
local plans, decisions, nodes, changes, deleted = KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local now, undoes, kind = ARGV[1], ARGV[2], ARGV[3]
local MAX_CHANGES = 10000

if redis.call('EXISTS', meta) == 0 then return {'unknown', ''} end
if redis.call('HEXISTS', meta, 'forgotten_at') == 1 then return {'forgotten', ''} end

local function settle(...)
  local version = redis.call('HINCRBY', meta, 'version', 1)
  redis.call('HSET', meta, 'changed', version, 'updated_at', now)
  redis.call('XADD', changes, 'MAXLEN', '~', MAX_CHANGES, version .. '-0',
    'kind', kind, 'at', now, 'undoes', undoes, ...)
  return version
end
local function current() return redis.call('HGET', meta, 'version') end

-- The step with the rest of its tool exchange, or nil where there is none.
local function unit(seq)
  local id = seq .. '-0'
  local found = redis.call('XRANGE', log, id, id)[1]
  if not found then return nil end
  local root = seq
  for j = 1, #found[2], 2 do
    if found[2][j] == 'group' then root = found[2][j + 1] end
  end
  local together = {root}
  for member in string.gmatch(redis.call('HGET', groups, root) or '', '%d+') do
    table.insert(together, member)
  end
  return together
end

if kind == 'pin' or kind == 'unpin' then
  local seq = ARGV[4]
  if not unit(seq) then return {'missing', seq} end
  if redis.call('HEXISTS', deleted, seq) == 1 then return {'deleted', seq} end
  local was = redis.call('HGET', pins, seq)
  if (kind == 'pin') == (was and true or false) then return {'ok', current()} end
  if kind == 'pin' then
    redis.call('HSET', pins, seq, ARGV[5])
  else
    redis.call('HDEL', pins, seq)
  end
  return {'ok', settle('steps', seq, 'reason', was or ARGV[5])}
end

if kind == 'delete' then
  local hidden = {}
  for i = 5, #ARGV do
    local together = unit(ARGV[i])
    if not together then return {'missing', ARGV[i]} end
    for _, seq in ipairs(together) do
      if redis.call('HEXISTS', deleted, seq) == 0 then hidden[seq] = true end
    end
  end
  local names = {}
  for seq in pairs(hidden) do table.insert(names, seq) end
  if #names == 0 then return {'ok', current()} end
  for _, seq in ipairs(names) do redis.call('HSET', deleted, seq, ARGV[4]) end
  return {'ok', settle('steps', table.concat(names, ',')), unpack(names)}
end

if kind == 'restore' then
  for i = 4, #ARGV do
    if redis.call('HEXISTS', deleted, ARGV[i]) == 0 then return {'final', ARGV[i]} end
  end
  local back, names = {}, {}
  for i = 4, #ARGV do
    for _, seq in ipairs(unit(ARGV[i])) do back[seq] = true end
  end
  for seq in pairs(back) do
    redis.call('HDEL', deleted, seq)
    table.insert(names, seq)
  end
  return {'ok', settle('steps', table.concat(names, ','))}
end

local from = redis.call('HGET', meta, 'plan') or ''
if kind == 'switch' then
  if from ~= ARGV[4] then return {'stale', current()} end
  if ARGV[5] ~= '' and redis.call('HEXISTS', plans, ARGV[5]) == 0 then
    return {'no plan', ARGV[5]}
  end
  redis.call('HSET', meta, 'plan', ARGV[5])
  return {'ok', settle('from', from, 'to', ARGV[5])}
end

if tonumber(redis.call('HGET', meta, 'changed') or 0) > tonumber(ARGV[4]) then
  return {'stale', current()}
end
local number = redis.call('HINCRBY', meta, 'plans', 1)
local plan = 'p' .. number
redis.call('HSET', plans, plan, ARGV[5])
redis.call('HSET', decisions, plan, ARGV[6])
redis.call('HSET', meta, 'plan', plan)
for i = 8, #ARGV, 2 do redis.call('HSET', nodes, ARGV[i], ARGV[i + 1]) end

local old = 'p' .. (number - tonumber(ARGV[7]))
if redis.call('HDEL', plans, old) == 1 then
  redis.call('HDEL', decisions, old)
  local used = {}
  for _, header in ipairs(redis.call('HVALS', plans)) do
    for _, node in ipairs(cjson.decode(header).nodes) do used[node] = true end
  end
  for _, node in ipairs(redis.call('HKEYS', nodes)) do
    if not used[node] then redis.call('HDEL', nodes, node) end
  end
end
return {'ok', settle('from', from, 'to', plan), plan}
