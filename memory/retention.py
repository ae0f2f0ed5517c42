"""Retention: sessions that nobody has gone on with, and records that nobody has written anew, since a time.

It looks at every session and record of every tenant, and is meant for a tick of every few minutes. Left out:
files of the memory tool, which carry no time, and responses, which expire by themselves.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from burnish.memory.errors import StoreError
from burnish.memory.records.record import RecordFilter
from burnish.memory.sessions.keys import PREFIX
from burnish.memory.store import MemoryStore

_SESSION = re.compile(re.escape(PREFIX) + r"\{([^:}]*):([^:}]*)\}:meta")
_RECORDS = re.compile(re.escape(PREFIX) + r"\{([^:}]*)\}:rec:meta")
_ALL = RecordFilter(include_superseded=True, include_expired=True)


async def forget_sessions(store: MemoryStore, redis: Any, before: float) -> int:
    """Erase the sessions whose last change was before that time (seconds since the epoch); how many."""
    erased = 0
    async for key in redis.scan_iter(match=f"{PREFIX}*:meta", count=1000):
        found = _SESSION.fullmatch(_text(key))
        if found is None:
            continue
        changed = await redis.hget(key, "updated_at")
        if changed is None or float(changed) >= before:  # a tombstone, or in use
            continue
        try:
            await store.forget(unquote(found[1]), unquote(found[2]))
        except StoreError:  # gone meanwhile
            continue
        erased += 1
    return erased


async def forget_records(store: MemoryStore, redis: Any, before: float) -> int:
    """Erase the records that were last written before that time, pinned ones excepted; how many."""
    erased = 0
    async for key in redis.scan_iter(match=f"{PREFIX}*:rec:meta", count=1000):
        found = _RECORDS.fullmatch(_text(key))
        if found is None:
            continue
        tenant = unquote(found[1])
        old = [
            record["id"]
            async for record, _ in store.records.scan(tenant, _ALL)
            if record["updated_at"] < before and not record["pinned"]
        ]
        for id in old:
            erased += await store.records.forget(tenant, id)
    return erased


def _text(key: bytes | str) -> str:
    return key.decode() if isinstance(key, bytes) else key
