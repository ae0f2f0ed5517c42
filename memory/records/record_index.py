"""One tenant's records as an index in this process, kept in step with Redis by its stream of
changes: posting lists for BM25, vectors, and the columns that filters compare.

Ranking ten thousand records here takes a millisecond or two; a Redis script took ten times as long
and blocked the server, and sending it scores or vectors costs as much. A search first reads the
records changed since the last one; the first in a process loads them all. Left out: approximate
nearest neighbours, records beyond the newest MAX_ROWS.
"""

import base64
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import numpy as np
from burnish.memory.records.record import RecordFilter, normal
from burnish.memory.search.bm25 import Postings
from burnish.memory.search.terms import query_terms, terms
from burnish.memory.sessions.keys import TenantKeys

NAMES = ("user", "session_id", "subject_key", "predicate_key")
FIELDS = ("text", "vector", *NAMES, "valid_from", "valid_until", "expires_at")
PAGE = 200
Fetch = Callable[[Sequence[int], Sequence[str]], Awaitable[Sequence[Sequence[str]]]]
MAX_ROWS = 200_000


def encode(name: str, vector: np.ndarray) -> str:
    """A vector as it is stored: the embedder's name, and half-precision numbers in base64."""
    return f"{name}:{base64.b64encode(vector.astype('<f2').tobytes()).decode()}"


def decode(name: str, stored: str) -> np.ndarray | None:
    """[d] float32, or None for nothing stored or another embedder's vector."""
    embedder, _, packed = stored.rpartition(":")
    if embedder != name or not packed:
        return None
    return np.frombuffer(base64.b64decode(packed), "<f2").astype(np.float32)


class RecordIndex:
    """Rows are only added; a changed record gets a new one, and its old one is dead."""

    def __init__(self, embedder: str) -> None:
        self._embedder = embedder
        self._reset()

    def __len__(self) -> int:
        return len(self._place)

    async def catch_up(self, redis: Any, keys: TenantKeys, fetch: Fetch) -> None:
        """Read what changed since the last time; `fetch` reads rows by their numbers."""
        changes = int(await redis.hget(keys.record_meta, "changes") or 0)
        if changes == self._seen:
            return
        if self._seen < changes:
            entries = await redis.xrange(keys.record_changes, f"{self._seen + 1}-0", "+")
            numbers = [int(entry[0].partition("-")[0]) for entry in entries]
            if numbers and numbers[0] == self._seen + 1:
                await self._load(fetch, {int(entry[1]["seq"]) for entry in entries})
                self._seen = numbers[-1]
                return
        # Too far behind, or Redis lost changes: read everything anew.
        self._reset()
        newest = await redis.zrevrange(keys.record_order, 0, MAX_ROWS - 1)
        await self._load(fetch, map(int, reversed(newest)))
        self._seen = changes

    def admitted(self, where: RecordFilter, now: float) -> np.ndarray:
        """[n] bool: the rows that Filter.admits, all at once."""
        count = len(self._postings)
        valid_from, valid_until, expires_at = self._times[:count].T
        admitted = self._alive[:count].copy()
        if not where.include_expired:
            admitted &= expires_at > now
        if not where.include_superseded:
            at = now if where.as_of is None else where.as_of
            admitted &= (valid_from <= at) & (at < valid_until)
        names = (where.user, where.session_id, where.subject, where.predicate)
        for column, name in enumerate(names):
            if name is not None:
                key = name if column < 2 else normal(name)
                admitted &= self._names[:count, column] == self._codes.get(key, -1)
        return admitted

    def matching(self, query: str, admitted: np.ndarray, limit: int) -> list[int]:
        """The numbers of the admitted records that match best by BM25, best first."""
        scores = self._postings.scores(query_terms(query), self._alive[: len(admitted)])
        return self._best(np.where(admitted, scores, 0), limit, above=0)

    def nearest(
        self, query: np.ndarray, admitted: np.ndarray, limit: int, *, above: float
    ) -> list[int]:
        """The numbers of the admitted records most similar to `query` [d], best first."""
        places = np.flatnonzero(admitted)
        if not len(places) or not query.any() or len(query) != self._vectors.shape[1]:
            return []
        similarity = np.full(len(admitted), -1, np.float32)
        # Not `@`: BLAS would start threads, and wait for each, on cores that a model keeps busy.
        if len(places) < len(admitted) / 4:
            similarity[places] = np.einsum("nd,d->n", self._vectors[places], query)
        else:
            all_rows = np.einsum("nd,d->n", self._vectors[: len(admitted)], query)
            similarity[places] = all_rows[places]
        return self._best(similarity, limit, above)

    def _best(self, scores: np.ndarray, limit: int, above: float) -> list[int]:
        found = np.flatnonzero(scores > above)
        worse = np.negative(scores[found])
        if len(found) > limit:
            kept = np.argpartition(worse, limit - 1)[:limit]
            found, worse = found[kept], worse[kept]
        numbers = self._numbers[found]
        return [int(number) for number in numbers[np.lexsort((-numbers, worse))]]

    async def _load(self, fetch: Fetch, numbers: Iterable[int]) -> None:
        wanted = list(numbers)
        for start in range(0, len(wanted), PAGE):
            page = wanted[start : start + PAGE]
            for number, row in zip(page, await fetch(page, FIELDS), strict=True):
                self._add_row(number, row)
        dead = len(self._postings) - len(self)
        if dead > max(len(self), PAGE):
            self._drop_dead()

    def _add_row(self, number: int, row: Sequence[str]) -> None:
        old = self._place.pop(number, None)
        if old is not None:
            self._alive[old] = False
        if not row:
            return
        text, stored, *names = row[: 2 + len(NAMES)]
        vector = decode(self._embedder, stored)
        place = len(self._postings)
        self._reserve(place + 1, 0 if vector is None else len(vector))
        self._place[number] = place
        self._numbers[place], self._alive[place] = number, True
        if vector is not None:
            self._vectors[place] = vector
        names = [*names[:2], *map(normal, names[2:4])]  # earlier versions kept the accents
        self._names[place] = [self._codes.setdefault(name, len(self._codes)) for name in names]
        ends = (float(seconds) if seconds else math.inf for seconds in row[-2:])
        self._times[place] = (float(row[-3] or 0), *ends)
        self._postings.add(terms(text))

    def _reserve(self, rows: int, dimensions: int) -> None:
        """Grow the arrays to so many rows and dimensions; new cells are zero."""
        grow = rows > len(self._alive)
        dimensions = max(dimensions, self._vectors.shape[1])
        if not grow and dimensions == self._vectors.shape[1]:
            return
        capacity = max(2 * rows, PAGE) if grow else len(self._alive)
        self._numbers, self._alive, self._names, self._times, self._vectors = (
            _grown(self._numbers, (capacity,)),
            _grown(self._alive, (capacity,)),
            _grown(self._names, (capacity, len(NAMES))),
            _grown(self._times, (capacity, 3)),
            _grown(self._vectors, (capacity, dimensions)),
        )

    def _drop_dead(self) -> None:
        alive = self._alive[: len(self._postings)].copy()
        self._postings.keep(alive)
        count = len(alive)
        self._numbers, self._names = self._numbers[:count][alive], self._names[:count][alive]
        self._times, self._vectors = self._times[:count][alive], self._vectors[:count][alive]
        self._alive = np.ones(len(self._numbers), np.bool_)
        self._place = {int(number): place for place, number in enumerate(self._numbers)}

    def _reset(self) -> None:
        self._seen = 0  # the last change that was read
        self._place: dict[int, int] = {}
        self._codes: dict[str, int] = {}
        self._postings = Postings()
        self._numbers = np.zeros(0, np.int64)
        self._alive = np.zeros(0, np.bool_)
        self._names = np.zeros((0, len(NAMES)), np.int32)
        self._times = np.zeros((0, 3), np.float64)
        self._vectors = np.zeros((0, 0), np.float32)


def _grown(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    larger = np.zeros(shape, rows.dtype)
    larger[tuple(slice(0, size) for size in rows.shape)] = rows
    return larger
