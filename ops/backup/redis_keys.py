"""All keys of a Redis as they are at one moment, in a SQLite file: key, time to live, DUMP's value.

Writers wait meanwhile (CLIENT PAUSE), so that a session's keys fit each other; readers do not. Leases
are left out: whoever held one is not there any more when it comes back. A cluster has no one moment.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import redis
from burnish.feedback.contract import LEASE_PREFIX
from burnish.ops.commands.client import ServiceError

Item = TypeVar("Item")
PAUSE_S = 30.0  # longest that writers wait
AT_ONCE = 500  # keys in one round trip


def dump(client: redis.Redis, target: Path, *, seconds: float = PAUSE_S) -> int:
    """Write every key; returns how many. Raises ServiceError where that takes longer than writers can
    be made to wait."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(target)) as file, file, _writers_paused(client, seconds):
        file.execute("CREATE TABLE key (name BLOB PRIMARY KEY, ttl INTEGER, value BLOB)")
        began, count = time.monotonic(), 0
        for names in batches(client.scan_iter(count=AT_ONCE)):
            with client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.pttl(name)
                    pipe.dump(name)
                found = pipe.execute()
            rows = zip(names, found[::2], found[1::2], strict=True)
            kept = [row for row in rows if row[2] is not None and not _is_lease(row[0])]
            file.executemany("INSERT OR REPLACE INTO key VALUES (?, ?, ?)", kept)
            count += len(kept)
            if time.monotonic() - began > seconds:
                raise ServiceError(
                    f"Redis holds more than can be read in {seconds:g} s, which is as long as its"
                    " writers may be made to wait; copy its append-only files or use its replica"
                )
    return count


def load(client: redis.Redis, source: Path) -> int:
    """Put the keys back into an empty database; returns how many. Raises ServiceError."""
    if client.dbsize():
        raise ServiceError("this Redis database has keys already; restore into an empty one")
    count = 0
    with closing(sqlite3.connect(source)) as file:
        rows = file.execute("SELECT name, ttl, value FROM key")
        for some in batches(rows):
            with client.pipeline(transaction=False) as pipe:
                for name, ttl, value in some:
                    pipe.restore(name, max(ttl, 0), value)
                pipe.execute()
            count += len(some)
    return count


def batches(items: Iterable[Item], size: int = AT_ONCE) -> Iterator[list[Item]]:
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def _is_lease(name: bytes) -> bool:
    return name.startswith(LEASE_PREFIX.encode())


@contextmanager
def _writers_paused(client: Any, seconds: float) -> Iterator[None]:
    client.client_pause(int(seconds * 1000), all=False)
    try:
        yield
    finally:
        client.client_unpause()
