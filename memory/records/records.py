"""Records: facts that outlive a session, with the time in which they hold.

A record in a slot (user, subject, predicate) closes the window of the value before it and
links both; nothing is overwritten, so `as_of` can ask what held at any time. Every write
is one script call, and `if_version` makes it a compare-and-set. `delete` undoes a record; `forget`
leaves a tombstone that refuses its id. Left out: ranking (record_search.py), getting facts out of
steps (extraction.py), choosing what to forget (forgetting.py).
"""

import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from hashlib import blake2s
from importlib.resources import files
from typing import Any

from burnish.memory.errors import BadStep, Forgotten, RecordNotFound, StaleRecord
from burnish.memory.records.record import (
    FIELDS,
    INNER,
    PUBLIC,
    Record,
    RecordDraft,
    RecordFilter,
    from_row,
    parse,
    session_index,
    user_index,
)
from burnish.memory.records.record_search import RecordSearch
from burnish.memory.search.embedding import Embedder, HashingEmbedder
from burnish.memory.sessions.keys import TenantKeys
from redis.asyncio import Redis

HALF_LIFE = 14 * 86400.0  # of a recall's weight in `heat`
PAGE = 200
ATTEMPTS = 20


class Records:
    """The tenant comes from the caller's key, never from the record.

    `floor` is the cosine similarity up to which two of the embedder's vectors have nothing in
    common; the default is about four standard deviations of unrelated texts with the hashing
    embedder.
    """

    def __init__(
        self,
        redis: Redis,
        clock: Callable[[], float] = time.time,
        *,
        embedder: Embedder | None = None,
        floor: float = 0.2,
    ) -> None:
        scripts = files("burnish.memory.records")
        self._redis: Any = redis  # replies are typed for bytes and text alike; ours are text
        self._clock = clock
        self._search = RecordSearch(redis, embedder or HashingEmbedder(), floor)
        self._write, self._fetch = (
            redis.register_script((scripts / name).read_text())
            for name in ("record.lua", "record_fetch.lua")
        )

    def now(self) -> float:
        return self._clock()

    async def put(
        self,
        tenant: str,
        record: Mapping[str, Any],
        *,
        if_version: int | None = None,
    ) -> Record:
        """Store a record; with a known id it replaces that one, if at `if_version` (0: new).

        In a slot it supersedes the value before it; without an id, a value that its slot
        holds already is only given one more source.
        Raises BadStep, TooLarge, StaleRecord, Forgotten.
        """
        draft = parse(record, self._clock())
        return (await self._put(tenant, draft, if_version, draft.id is None))[1]

    async def learn(self, tenant: str, record: Mapping[str, Any]) -> tuple[str, Record]:
        """Store what may be stored already: 'created', 'confirmed' (its slot holds that value) or 'known'
        (that id is there, and stays as it is), and the record. Raises BadStep, Forgotten."""
        return await self._put(tenant, parse(record, self._clock()), None, True)

    async def update(
        self, tenant: str, record_id: str, changes: Mapping[str, Any], if_version: int | None = None
    ) -> Record:
        """Correct some fields and keep the rest. Without `if_version` it is done again until
        no other writer came between. Raises RecordNotFound, StaleRecord, BadStep."""
        for attempt in range(1, ATTEMPTS + 1):
            number = await self._number(tenant, record_id)
            [row] = await self._raw(tenant, [number], INNER)
            if not row:
                raise _unknown(record_id)
            old = from_row(row)
            kept = {name: value for name, value in old.items() if name in FIELDS}
            ends = row[INNER.index("ends")]
            kept["valid_until"] = float(ends) if ends else None
            if "value" in changes:
                del kept["text"]
            draft = parse({**kept, **changes, "id": record_id}, self._clock())
            version = old["version"] if if_version is None else if_version
            try:
                return (await self._put(tenant, draft, version, False))[1]
            except StaleRecord:
                if if_version is not None or attempt == ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def judge(self, tenant: str, record_id: str, value: float) -> None:
        """Count whether it helped where it was recalled, from -1 to 1. Raises BadStep, RecordNotFound."""
        if not -1 <= value <= 1:
            raise BadStep("value must be from -1 (harmful) to 1 (helpful)")
        if not await self._change(TenantKeys(tenant), "judge", record_id, args=[value]):
            raise _unknown(record_id)

    async def get(self, tenant: str, record_id: str) -> Record:
        """As it stands, whether it holds now or not. Raises RecordNotFound."""
        [row] = await self._raw(tenant, [await self._number(tenant, record_id)])
        if not row:
            raise _unknown(record_id)
        return from_row(row)

    async def list(
        self,
        tenant: str,
        where: RecordFilter | None = None,
        *,
        user: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> Sequence[Record]:
        """Oldest first; `after` is the last id of the page before. Raises RecordNotFound."""
        start = 0 if after is None else await self._number(tenant, after)
        found: list[Record] = []
        async with aclosing(self.scan(tenant, where or RecordFilter(user=user), start)) as records:
            async for record, _ in records:
                found.append(record)
                if len(found) == limit:
                    break
        return found

    async def scan(
        self, tenant: str, where: RecordFilter, after: int = 0
    ) -> AsyncGenerator[tuple[Record, float], None]:
        """All that the filter admits, oldest first, each with its heat now: how likely it is to be
        needed, as recency and frequency of recalls tell (record_fetch.lua)."""
        keys = TenantKeys(tenant)
        index = "order"
        if where.user is not None:
            index = user_index(where.user)
        elif where.session_id is not None:
            index = session_index(where.session_id)
        while numbers := await self._redis.zrangebyscore(
            keys.records + index, f"({after}", "+inf", start=0, num=PAGE
        ):
            now = self._clock()
            for row in await self._raw(tenant, numbers, INNER):
                if row and where.admits(record := from_row(row), now):
                    heat, at = row[-2:]
                    age = max(now - float(at), 0) if at else 0
                    yield record, float(heat or 0) * 2 ** (-age / HALF_LIFE)
            after = int(numbers[-1])

    async def search(
        self,
        tenant: str,
        query: str,
        where: RecordFilter | None = None,
        *,
        user: str | None = None,
        limit: int = 10,
        recall: bool = True,
    ) -> Sequence[dict[str, Any]]:
        """Best first, each record with its `score`; counted as recalled unless `recall` is off."""
        where = where or RecordFilter(user=user)
        vector = await self._search.embed(query)
        index = await self._search.index(tenant, partial(self._raw, tenant))
        now = self._clock()
        best = self._search.rank(index, query, vector, where, limit, now)
        rows = await self._raw(tenant, [number for number, _ in best], recall=recall)
        found = []
        for row, (_, score) in zip(rows, best, strict=True):
            if row and where.admits(record := from_row(row), now):  # it may just have changed
                found.append({**record, "score": round(score, 6)})
        return found

    async def delete(self, tenant: str, record_id: str) -> None:
        """Undo: as if it had never been written; what it superseded holds again and the id is
        free. Raises RecordNotFound."""
        if not await self._change(TenantKeys(tenant), "drop", record_id, args=[""]):
            raise _unknown(record_id)

    async def forget(self, tenant: str, record_id: str, if_version: int | None = None) -> int:
        """Erase; what it superseded stays superseded, and the id is refused from now on.
        How many there were. Raises StaleRecord."""
        return await self._change(TenantKeys(tenant), "drop", record_id, if_version, args=["1"])

    async def forget_user(self, tenant: str, user: str) -> int:
        """Erase all records of this end user; how many."""
        return await self._forget_all(tenant, user_index(user))

    async def forget_session(self, tenant: str, session: str) -> int:
        """Erase all records that come from this session; how many."""
        return await self._forget_all(tenant, session_index(session))

    async def _forget_all(self, tenant: str, index: str) -> int:
        keys, erased = TenantKeys(tenant), 0
        while numbers := await self._redis.zrange(keys.records + index, 0, PAGE - 1):
            for row in await self._raw(tenant, numbers, ("id",)):
                if row:
                    erased += await self.forget(tenant, row[0])
        return erased

    async def _put(
        self, tenant: str, draft: RecordDraft, if_version: int | None, confirm: bool
    ) -> tuple[str, Record]:
        now, record_id = self._clock(), draft.id or f"rec-{uuid.uuid4().hex}"
        fields = [part for pair in draft.fields(now).items() for part in pair]
        fields += ["id", record_id, "vector", await self._search.encoded(draft.text)]
        slot = await self._slot(tenant, draft)
        args = ["1" if confirm else "", slot, "\n".join(draft.indexes)]
        for names in (PUBLIC, fields):
            args += [len(names), *names]
        outcome, *row = await self._change(TenantKeys(tenant), "put", record_id, if_version, args)
        return outcome, from_row(row)

    async def _slot(self, tenant: str, draft: RecordDraft) -> str:
        before = draft.slot_with_accents
        if before != draft.slot and await self._redis.exists(TenantKeys(tenant).records + before):
            return before
        return draft.slot

    async def _change(
        self,
        keys: TenantKeys,
        op: str,
        record_id: str,
        if_version: int | None = None,
        args: Sequence[Any] = (),
    ) -> Any:
        """Call record.lua: the values of the public fields after a put, else 1 or 0."""
        digest = blake2s(f"{keys.tenant}\n{record_id}".encode(), digest_size=16).hexdigest()
        expected = "" if if_version is None else if_version
        head = [op, keys.records, repr(self._clock()), record_id, digest, expected]
        reply = await self._write(keys=keys.record_fixed, args=[*head, *args])
        if reply[0] == "gone":
            raise Forgotten(f"record {record_id!r} was forgotten: use another id")
        if reply[0] == "stale":
            raise StaleRecord(record_id, int(reply[1]), if_version or 0)
        return reply[1:] if op == "put" else reply[1]

    async def _number(self, tenant: str, record_id: str) -> int:
        number = await self._redis.hget(TenantKeys(tenant).record_ids, record_id)
        if number is None:
            raise _unknown(record_id)
        return int(number)

    async def _raw(
        self,
        tenant: str,
        numbers: Sequence[int],
        fields: Sequence[str] = PUBLIC,
        *,
        recall: bool = False,
    ) -> Sequence[Sequence[str]]:
        """The stored values at these numbers, in order; an empty row for none."""
        if not numbers:
            return []
        keys = TenantKeys(tenant)
        head = [keys.records + "r:", repr(self._clock()), HALF_LIFE if recall else ""]
        rows = await self._fetch(
            keys=[keys.record_meta], args=[*head, len(fields), *fields, *numbers]
        )
        return [json.loads(row) for row in rows]


def _unknown(record_id: str) -> RecordNotFound:
    return RecordNotFound(f"no record {record_id!r}: list or search tells the ids there are")
