-- Change some of an end user's files if they are still as they were read, all or nothing.
--
-- KEYS  files: path -> content
-- ARGV  most bytes in all, count of expectations, then path, '1' (there) or '0', content, ...;
--       then writes: path, '1' and content to set, '0' and '' to remove, ...
-- Returns 1, 0 when a file is not as expected, -1 when it would be too much.
local files, most = KEYS[1], tonumber(ARGV[1])
local at = 3 + 3 * tonumber(ARGV[2])
for i = 3, at - 1, 3 do
  local content = redis.call('HGET', files, ARGV[i])
  if (content and '1' or '0') ~= ARGV[i + 1] then return 0 end
  if content and content ~= ARGV[i + 2] then return 0 end
end
local before, after = 0, 0
for i = at, #ARGV, 3 do
  before = before + redis.call('HSTRLEN', files, ARGV[i])
  after = after + #ARGV[i + 2]
end
if after > before then
  local held = 0
  for _, content in ipairs(redis.call('HVALS', files)) do held = held + #content end
  if held - before + after > most then return -1 end
end
for i = at, #ARGV, 3 do
  if ARGV[i + 1] == '1' then redis.call('HSET', files, ARGV[i], ARGV[i + 2])
  else redis.call('HDEL', files, ARGV[i]) end
end
return 1
