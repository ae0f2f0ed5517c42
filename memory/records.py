"""Records: facts that outlive a session, one shelf per tenant.

A record is a short text with an optional owner (the end user) and its provenance (a
session and cursors). Put is last-write-wins by id; delete makes room for a new record
of that id, forget leaves a tombstone that refuses it. Left out for now: validity
windows, supersession, extraction.
"""

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any, TypedDict
from urllib.parse import quote

from burnish.memory.errors import BadStep, Forgotten, RecordNotFound
from burnish.memory.keys import TenantKeys
from burnish.memory.steps import clean, parse_cursor
from burnish.memory.terms import query_terms, terms
from redis.asyncio import Redis

MAX_TEXT = 16 * 1024
POSTING_UNIT = 1 << 20


class Record(TypedDict):
    id: str
    text: str
    user: str | None
    session_id: str | None
    cursors: list[str]
    created_at: float
    updated_at: float


class Records:
    """The tenant comes from the caller's key, never from the record."""

    def __init__(self, redis: Redis, clock: Callable[[], float] = time.time) -> None:
        scripts = files("burnish.memory")
        self._redis: Any = redis  # replies are typed for bytes and text alike; ours are text
        self._clock = clock
        self._write = redis.register_script((scripts / "record.lua").read_text())
        self._search = redis.register_script((scripts / "search.lua").read_text())

    async def put(self, tenant: str, record: Mapping[str, Any]) -> Record:
        """Store a record; with a known id it replaces that one. Raises BadStep, Forgotten."""
        unknown = set(record) - {"id", "text", "user", "session_id", "cursors"}
        if unknown:
            raise BadStep(f"unknown field {sorted(unknown)[0]!r} in a record")
        now = self._clock()
        new = Record(
            id=_label("id", record.get("id")) or f"rec-{uuid.uuid4().hex}",
            text=clean("text", record.get("text"), MAX_TEXT),
            user=_label("user", record.get("user")),
            session_id=_label("session_id", record.get("session_id")),
            cursors=[str(parse_cursor(cursor)) for cursor in record.get("cursors") or ()],
            created_at=now,
            updated_at=now,
        )
        if not new["text"].strip():
            raise BadStep("text is empty")
        keys = TenantKeys(tenant)
        born = await self._redis.zscore(keys.record_order, new["id"])
        new["created_at"] = now if born is None else born
        if await self._change(keys, new["id"], record=new) < 0:
            raise Forgotten(f"record {new['id']!r} was forgotten: use another id")
        return new

    async def get(self, tenant: str, record_id: str) -> Record:
        found = await self._fetch(TenantKeys(tenant), [record_id])
        if not found:
            raise RecordNotFound(f"no record {record_id!r}")
        return found[0]

    async def list(
        self, tenant: str, *, user: str | None = None, after: str | None = None, limit: int = 50
    ) -> Sequence[Record]:
        """Oldest first, of one user or all; `after` is the last id of the page before."""
        keys = TenantKeys(tenant)
        order = keys.record_order if user is None else keys.records_of(user)
        start = 0
        if after is not None:
            rank = await self._redis.zrank(order, after)
            if rank is None:
                raise RecordNotFound(f"no record {after!r} to list after")
            start = rank + 1
        ids = await self._redis.zrange(order, start, start + limit - 1)
        return await self._fetch(keys, ids)

    async def search(
        self, tenant: str, query: str, *, user: str | None = None, limit: int = 10
    ) -> Sequence[dict[str, Any]]:
        """Best first, each record with its `score`; with a user, only that user's."""
        keys = TenantKeys(tenant)
        lists = [keys.record_postings + term for term in query_terms(query)]
        # A user's share of the hits is not known beforehand: rank deeper, then filter.
        depth = limit if user is None else max(limit * 10, 200)
        hits = await self._search(keys=[keys.record_meta, *lists], args=[depth, 0])
        scores = dict(zip(hits[::2], map(float, hits[1::2]), strict=True))
        found = await self._fetch(keys, list(scores))
        mine = [record for record in found if user is None or record["user"] == user]
        return [{**record, "score": scores[record["id"]]} for record in mine[:limit]]

    async def delete(self, tenant: str, record_id: str) -> None:
        """Remove for good; the id is free again. Raises RecordNotFound."""
        if await self._change(TenantKeys(tenant), record_id) < 1:
            raise RecordNotFound(f"no record {record_id!r}")

    async def forget(self, tenant: str, record_id: str) -> int:
        """Remove and leave a tombstone: the id is refused from now on. How many there were."""
        return await self._change(TenantKeys(tenant), record_id, tombstone=True)

    async def forget_user(self, tenant: str, user: str) -> int:
        keys = TenantKeys(tenant)
        ids = await self._redis.zrange(keys.records_of(user), 0, -1)
        return sum([await self._change(keys, record_id, tombstone=True) for record_id in ids])

    async def _fetch(self, keys: TenantKeys, ids: Sequence[str]) -> Sequence[Record]:
        if not ids:
            return []
        rows = await self._redis.hmget(keys.records, list(ids))
        return [json.loads(row) for row in rows if row]

    async def _change(
        self,
        keys: TenantKeys,
        record_id: str,
        *,
        record: Record | None = None,
        tombstone: bool = False,
    ) -> int:
        counts = terms(record["text"]) if record else {}
        length = sum(counts.values())
        now = self._clock()
        return int(
            await self._write(
                keys=[*keys.record_fixed, *(keys.record_postings + term for term in counts)],
                args=[
                    keys.record_postings,
                    keys.records_of(""),
                    record_id,
                    now if tombstone else "",
                    record["created_at"] if record else now,
                    json.dumps(record) if record else "",
                    quote((record and record["user"]) or "", safe=""),
                    length,
                    *(pack(count, length) for count in counts.values()),
                ],
            )
        )


def pack(count: int, length: int) -> int:
    """A posting: a term's occurrences and its document's length in one number."""
    return count * POSTING_UNIT + min(length, POSTING_UNIT - 1)


def _label(field: str, value: object) -> str | None:
    if value is None:
        return None
    text = clean(field, value, 128)
    if not text or not text.isprintable():
        raise BadStep(f"{field} must be 1 to 128 printable characters")
    return text
