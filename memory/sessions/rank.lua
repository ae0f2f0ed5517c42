-- BM25 over one session's steps, ranked where the postings are: only the best few leave.
-- The formula is that of search/bm25.py; a test holds the two to the same scores.
--
-- KEYS  meta (fields docs, length), then one posting list per query term (see append.lua)
-- ARGV  limit, before: only steps with a smaller number count (0: all); then each term's weight
-- Returns {step, score, ...}, best first; equal scores: the newer step first.
local K1, B = 1.2, 0.75
local SIZE = 8
local MAX_POSTINGS = 5000 -- bounds the time of a query made of common words

local limit, before = tonumber(ARGV[1]), tonumber(ARGV[2])
local totals = redis.call('HMGET', KEYS[1], 'docs', 'length')
local docs, length = tonumber(totals[1] or 0), tonumber(totals[2] or 0)
if docs == 0 then return {} end
local mean = math.max(length / docs, 1)

local lists = {}
for i = 2, #KEYS do
  local n = redis.call('STRLEN', KEYS[i]) / SIZE
  if n > 0 then table.insert(lists, {key = KEYS[i], n = n, weight = tonumber(ARGV[i + 1])}) end
end
-- The rarest first: they decide, and what is over the bound weighs next to nothing.
table.sort(lists, function(a, b)
  if a.n ~= b.n then return a.n < b.n end
  return a.key < b.key
end)

local scores, read = {}, 0
for i, list in ipairs(lists) do
  read = read + list.n
  if i > 1 and read > MAX_POSTINGS then break end
  local idf = list.weight * math.log(1 + (docs - list.n + 0.5) / (list.n + 0.5))
  -- A list longer than the bound counts by its newest part.
  local from = math.max(0, list.n - MAX_POSTINGS) * SIZE
  local postings = redis.call('GETRANGE', list.key, from, -1)
  for at = 1, #postings, SIZE do
    local step, tf, size = struct.unpack('>I4I2I2', postings, at)
    if before ~= 0 and step >= before then break end
    local gain = idf * tf * (K1 + 1) / (tf + K1 * (1 - B + B * size / mean))
    scores[step] = (scores[step] or 0) + gain
  end
end

local function better(a, b)
  if a.score ~= b.score then return a.score > b.score end
  return a.step > b.step
end

local top = {}
for step, score in pairs(scores) do
  local entry = {step = step, score = score}
  if #top < limit or better(entry, top[#top]) then
    local place = #top + 1
    while place > 1 and better(entry, top[place - 1]) do place = place - 1 end
    table.insert(top, place, entry)
    if #top > limit then table.remove(top) end
  end
end

local reply = {}
for _, entry in ipairs(top) do
  table.insert(reply, entry.step)
  table.insert(reply, string.format('%.6f', entry.score))
end
return reply
