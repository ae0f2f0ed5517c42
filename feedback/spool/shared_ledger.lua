-- Enter judgements and retractions of one tenant. KEYS, two for each: its row, and the judgements on its
-- target. ARGV: seconds to keep them, then seven for each: kind, time, revision, id, place, what it said,
-- body. Kinds: judge and retract are given a time after what they replace; those that end in `again` were
-- accepted elsewhere and keep theirs. Whatever the order of arrival, the last by (time, revision, id) stands.
-- Times and revisions are whole microseconds, which a double holds until the year 2255.
-- Returns for each: time, revision, status.

local function whole(number) return string.format('%.0f', number) end

local function is_later(at, revision, id, than)
  if at ~= than.at then return at > than.at end
  if revision ~= than.revision then return revision > than.revision end
  return id >= than.id
end

local function last_in(on, place)
  local at, revision, id = string.match(redis.call('HGET', on, place) or '', '^(%d+) (%d+) (.*)$')
  return {at = tonumber(at or -1), revision = tonumber(revision or -1), id = id or ''}
end

local told = {}
for n = 0, #KEYS / 2 - 1 do
  local row, on = KEYS[2 * n + 1], KEYS[2 * n + 2]
  local kind, at, revision, id, place, said, body = unpack(ARGV, 7 * n + 2, 7 * n + 8)
  local found = redis.call('HMGET', row, 'state', 'at', 'revision', 'said')
  local known = {at = tonumber(found[2] or -1), revision = tonumber(found[3] or -1), id = id}
  at, revision = tonumber(at), tonumber(revision)
  local status = 'stored'
  if kind == 'retract' or kind == 'retract again' then
    if kind == 'retract' then at = math.max(at, known.at + 1) end
    if found[1] == 'retracted' then status = 'unchanged' end
    if at >= known.at then redis.call('HSET', row, 'state', 'retracted', 'at', whole(at)) end
  else
    local before = last_in(on, place)
    if kind == 'judge' then
      at = math.max(at, known.at + 1, before.at + 1)
      revision = at
      if found[1] == 'given' then
        status = 'replaced'
        if found[4] == said then status, revision = 'unchanged', known.revision end
      end
    end
    if is_later(at, revision, id, known) then
      redis.call('HSET', row, 'state', 'given', 'at', whole(at), 'given', whole(at), 'revision', whole(revision),
        'said', said, 'body', body, 'place', place, 'on', on)
    end
    if is_later(at, revision, id, before) then
      redis.call('HSET', on, place, whole(at) .. ' ' .. whole(revision) .. ' ' .. id)
    end
    redis.call('EXPIRE', on, ARGV[1])
  end
  redis.call('EXPIRE', row, ARGV[1])
  told[n + 1] = {whole(at), whole(revision), status}
end
return told
