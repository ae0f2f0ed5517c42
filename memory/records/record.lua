-- Put, judge or drop one record with all that hangs on it, atomically: indexes, and the
-- windows of its slot. A slot (one user's subject and predicate) has one timeline,
-- ordered by valid_from and then by age; a window ends where its own claim says (`ends`) or
-- where the next one begins, whichever comes first. So no two of them can overlap.
--
-- KEYS  meta ids gone order changes
-- ARGV  op, prefix, now, id, digest of the id, expected version ('' any, 0 none), then
--       put   confirm ('1': what is known stays as it is), slot, indexes (newline-joined),
--             public fields, fields (each list: count, then its items)
--       judge value, added to the feedback there is
--       drop  '1' leaves a tombstone and the windows as they are; '' is as if never written
-- Returns put {'ok', 'created' | 'replaced' | 'confirmed' | 'known', value of each public
--         field...}; drop and judge {'ok', 1 or 0};
--         {'gone'} for a forgotten id; {'stale', version} when the expectation fails.
local meta, ids, gone, order, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local op, prefix, now, id, digest, expected = unpack(ARGV, 1, 6)

local at = 6
local function take()
  at = at + 1
  return ARGV[at]
end
local function take_many()
  local many = {}
  for i = 1, tonumber(take()) do many[i] = take() end
  return many
end
local function row(seq) return prefix .. 'r:' .. tonumber(seq) end
local function member(seq) return string.format('%012d', seq) end

local mine = redis.call('HGET', ids, id)
local function changed(seq)
  local n = redis.call('HINCRBY', meta, 'changes', 1)
  redis.call('XADD', changes, 'MAXLEN', '~', 8192, n .. '-0', 'seq', tonumber(seq))
  redis.call('HINCRBY', row(seq), 'version', 1)
end
-- Write a window anew; the record at hand gets its own new version once, at the end.
local function set(seq, ...)
  redis.call('HSET', row(seq), ...)
  if not mine or tonumber(seq) ~= tonumber(mine) then changed(seq) end
end

-- Bring the window at this place of a slot's timeline, and its link to the next, up to date.
local function settle(slot, place)
  local pair = redis.call('ZRANGE', slot, math.max(place, 0), place + 1)
  local this, after = pair[1], pair[2]
  if place < 0 then this, after = nil, pair[1] end
  local link = ''
  if this then
    local was = redis.call('HMGET', row(this), 'ends', 'valid_until', 'superseded_by', 'id')
    local ends, by = was[1], ''
    if after then
      local next = redis.call('HMGET', row(after), 'valid_from', 'id')
      if ends == '' or tonumber(ends) > tonumber(next[1]) then
        ends, by, link = next[1], next[2], was[4]
      end
    end
    if ends ~= was[2] or by ~= was[3] then
      set(this, 'valid_until', ends, 'superseded_by', by)
    end
  end
  if after and redis.call('HGET', row(after), 'supersedes') ~= link then
    set(after, 'supersedes', link)
  end
end

-- Take a record out of its slot and its indexes; its row stays.
local function detach(seq, freeze, stays_in_slot)
  local was = redis.call('HMGET', row(seq), 'slot', 'indexes')
  if was[1] ~= '' and not stays_in_slot then
    local slot = prefix .. was[1]
    local place = redis.call('ZRANK', slot, member(seq))
    if freeze and place > 0 then
      local before = redis.call('ZRANGE', slot, place - 1, place - 1)[1]
      redis.call('HSET', row(before), 'ends', redis.call('HGET', row(before), 'valid_until'))
    end
    redis.call('ZREM', slot, member(seq))
    settle(slot, place - 1)
  end
  for index in string.gmatch(was[2], '[^\n]+') do redis.call('ZREM', prefix .. index, seq) end
end

if op == 'put' and redis.call('HEXISTS', gone, digest) == 1 then return {'gone'} end
local version = mine and redis.call('HGET', row(mine), 'version') or '0'
if expected ~= '' and expected ~= version then return {'stale', version} end

if op == 'drop' then
  local tombstone = take()
  if mine then
    detach(mine, tombstone ~= '')
    changed(mine)
    redis.call('UNLINK', row(mine))
    redis.call('HDEL', ids, id)
    redis.call('ZREM', order, mine)
  end
  if tombstone ~= '' then redis.call('HSET', gone, digest, now) end
  return {'ok', mine and 1 or 0}
end

if op == 'judge' then
  if mine then redis.call('HINCRBYFLOAT', row(mine), 'feedback', take()) end
  return {'ok', mine and 1 or 0}
end

local confirm, slot, indexes = take(), take(), take()
local public, fields = take_many(), take_many()
local new = {}
for i = 1, #fields, 2 do new[fields[i]] = fields[i + 1] end
local function reply(how, seq)
  local answer = {'ok', how}
  for i, value in ipairs(redis.call('HMGET', row(seq), unpack(public))) do
    answer[i + 2] = value or ''
  end
  return answer
end
if confirm ~= '' and mine then return reply('known', mine) end

local old = mine and redis.call('HMGET', row(mine), 'valid_from', 'slot', 'created_at')
if new.valid_from == '' then
  new.valid_from = old and old[2] == slot and old[1] or now
end

-- The same value stated again while it holds is no new fact, only one more source for it.
if confirm ~= '' and slot ~= '' then
  local upto = redis.call(
    'ZREVRANGEBYSCORE', prefix .. slot, new.valid_from, '-inf', 'LIMIT', 0, 1)[1]
  if upto then
    local was = redis.call('HMGET', row(upto), 'same', 'valid_until', 'session_id', 'cursors')
    local holds = was[2] == '' or tonumber(was[2]) > tonumber(new.valid_from)
    if holds and was[1] == new.same then
      local sources = ',' .. was[4] .. ','
      local more = was[4]
      for cursor in string.gmatch(new.cursors, '%d+') do
        if not string.find(sources, ',' .. cursor .. ',', 1, true) then
          more = more == '' and cursor or more .. ',' .. cursor
        end
      end
      if was[3] == new.session_id and more ~= was[4] then
        redis.call('HSET', row(upto), 'cursors', more, 'updated_at', now)
        changed(upto)
      end
      return reply('confirmed', upto)
    end
  end
end

local how = mine and 'replaced' or 'created'
if mine then
  detach(mine, false, old[2] == slot and tonumber(old[1]) == tonumber(new.valid_from))
  new.created_at = old[3]
else
  mine = redis.call('HINCRBY', meta, 'seq', 1)
  redis.call('HSET', ids, id, mine)
  redis.call('ZADD', order, mine, mine)
end
for index in string.gmatch(indexes, '[^\n]+') do
  redis.call('ZADD', prefix .. index, mine, mine)
end
new.slot, new.indexes = slot, indexes
new.valid_until, new.superseded_by, new.supersedes = new.ends, '', ''
local flat = {}
for name, value in pairs(new) do
  flat[#flat + 1] = name
  flat[#flat + 1] = value
end
redis.call('HSET', row(mine), unpack(flat))
if slot ~= '' then
  redis.call('ZADD', prefix .. slot, new.valid_from, member(mine))
  local place = redis.call('ZRANK', prefix .. slot, member(mine))
  settle(prefix .. slot, place - 1)
  settle(prefix .. slot, place)
end
changed(mine)
return reply(how, mine)
