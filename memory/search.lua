-- BM25 over one session's steps or one tenant's records, ranked where the data is:
-- only the best few ids leave the server.
--
-- KEYS  meta (fields docs, length), then one posting list per query term
-- ARGV  limit, before: only documents with a smaller number count (0: all)
-- Returns {document, score, ...}, best first; equal scores: the newer or larger id first.
local K1, B = 1.2, 0.75
local UNIT = 1048576        -- a posting is occurrences * UNIT + document length
local MOST_POSTINGS = 30000 -- bounds the time of a query made of common words

local limit, before = tonumber(ARGV[1]), tonumber(ARGV[2])
local totals = redis.call('HMGET', KEYS[1], 'docs', 'length')
local docs, length = tonumber(totals[1] or 0), tonumber(totals[2] or 0)
if docs == 0 then return {} end
local mean = math.max(length / docs, 1)

local lists = {}
for i = 2, #KEYS do
  local n = redis.call('HLEN', KEYS[i])
  if n > 0 then table.insert(lists, {key = KEYS[i], n = n}) end
end
table.sort(lists, function(a, b)
  if a.n ~= b.n then return a.n < b.n end
  return a.key < b.key
end)

local scores, read = {}, 0
for i, list in ipairs(lists) do
  read = read + list.n
  if i > 1 and read > MOST_POSTINGS then break end
  local idf = math.log(1 + (docs - list.n + 0.5) / (list.n + 0.5))
  local postings = redis.call('HGETALL', list.key)
  for j = 1, #postings, 2 do
    local doc = postings[j]
    if before == 0 or tonumber(doc) < before then
      local packed = tonumber(postings[j + 1])
      local size = packed % UNIT
      local tf = (packed - size) / UNIT
      local gain = idf * tf * (K1 + 1) / (tf + K1 * (1 - B + B * size / mean))
      scores[doc] = (scores[doc] or 0) + gain
    end
  end
end

local function better(a, b)
  if a.score ~= b.score then return a.score > b.score end
  local x, y = tonumber(a.doc), tonumber(b.doc)
  if x and y then return x > y end
  return a.doc > b.doc
end

local top = {}
for doc, score in pairs(scores) do
  local entry = {doc = doc, score = score}
  if #top < limit or better(entry, top[#top]) then
    local place = #top + 1
    while place > 1 and better(entry, top[place - 1]) do place = place - 1 end
    table.insert(top, place, entry)
    if #top > limit then table.remove(top) end
  end
end

local reply = {}
for _, entry in ipairs(top) do
  table.insert(reply, entry.doc)
  table.insert(reply, string.format('%.6f', entry.score))
end
return reply
