-- Erase a session: every key goes; what stays is a tombstone without content, so that
-- a late retry of an append cannot bring it back.
--
-- KEYS  the session's fixed keys (see keys.py)
-- ARGV  posting prefix, now
-- Returns the number of steps erased, or -1 for a session that never was.
-- Posting lists are found from the session's own list of terms: same slot, by the hash tag.
local meta, terms = KEYS[1], KEYS[7]

if redis.call('EXISTS', meta) == 0 then return -1 end
local erased = tonumber(redis.call('HGET', meta, 'docs') or 0)
local kept = redis.call('HMGET', meta, 'seq', 'version', 'forgotten_at')
if kept[3] then return 0 end
for _, term in ipairs(redis.call('SMEMBERS', terms)) do redis.call('UNLINK', ARGV[1] .. term) end
redis.call('UNLINK', unpack(KEYS))
redis.call('HSET', meta, 'seq', kept[1], 'version', kept[2] + 1, 'forgotten_at', ARGV[2])
return erased
