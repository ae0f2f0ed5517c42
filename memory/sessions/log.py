"""Reading one session's log: by place, from the newest, by relevance, whole, and in whole units.

A `SessionLog` shows the log of one snapshot: up to `upto`, and without the steps in `hidden`,
whose deletion can still be undone.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

from burnish.memory.search.terms import query_terms, weight
from burnish.memory.sessions.keys import SessionKeys
from burnish.memory.sessions.scripts import Scripts
from burnish.memory.sessions.steps import Step, from_entry
from burnish.memory.sessions.units import Unit

PAGE = 32
LONG_PAGE = 500
FOREVER = 10**15


class SessionLog:
    """Reads the stream and calls the ranking script; of what is `hidden` it returns nothing."""

    def __init__(
        self,
        redis: Any,
        keys: SessionKeys,
        scripts: Scripts,
        upto: int = FOREVER,
        hidden: Iterable[int] = (),
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts
        self._upto = upto
        self._hidden = frozenset(hidden)

    async def after(self, seq: int, limit: int) -> list[Step]:
        page = await self._redis.xrange(self._keys.log, f"{seq + 1}-0", self._upto, limit)
        return self._seen(page)

    async def newest(self, limit: int) -> list[Step]:
        """The newest `limit` steps, in the order of the log."""
        upto, most = str(self._upto), limit + len(self._hidden)
        page = await self._redis.xrevrange(self._keys.log, upto, "-", most)
        return self._seen(page)[:limit][::-1]

    async def between(self, after: int, upto: int) -> list[Step]:
        """Every step from after one place up to another, in order."""
        steps: list[Step] = []
        start = f"({after}-0"
        while page := await self._redis.xrange(
            self._keys.log, start, str(min(upto, self._upto)), count=LONG_PAGE
        ):
            steps += self._seen(page)
            start = f"({page[-1][0]}"
        return steps

    async def steps(self, seqs: Sequence[int]) -> list[Step]:
        """The steps at these places, in the order asked for; those erased are left out."""
        if not seqs:
            return []
        async with self._redis.pipeline(transaction=False) as pipe:
            for seq in seqs:
                pipe.xrange(self._keys.log, f"{seq}-0", f"{seq}-0")
            pages = await pipe.execute()
        return self._seen(entry for page in pages for entry in page)

    async def rank(self, query: str, limit: int) -> list[tuple[Step, float]]:
        """The `limit` steps that match best, with their BM25 scores."""
        scores = await self.places(query, limit)
        found = await self.steps(list(scores))
        return [(step, scores[step.seq]) for step in found[:limit]]

    async def places(self, query: str, limit: int, before: int = 0) -> dict[int, float]:
        """Where the best matches are, best first, with their scores; some may be hidden.
        `before` leaves out that place and later ones."""
        wanted = query_terms(query)
        if not wanted:
            return {}
        before = min(before or self._upto + 1, self._upto + 1)
        hits = await self._scripts.rank(
            keys=[self._keys.meta, *(self._keys.postings + term for term in wanted)],
            args=[limit + len(self._hidden), before, *map(weight, wanted)],
        )
        return {int(seq): float(score) for seq, score in zip(hits[::2], hits[1::2], strict=True)}

    async def units(self, steps: Sequence[Step]) -> list[Unit]:
        """Each step with the rest of its tool exchange, in the order of `steps`, no unit twice."""
        roots = list(dict.fromkeys(s.group or s.seq for s in steps if s.group or s.tool_calls))
        have = {step.seq: step for step in steps}
        members: dict[int, list[int]] = {}
        if roots:
            rows = await self._redis.hmget(self._keys.groups, [str(root) for root in roots])
            for root, row in zip(roots, rows, strict=True):
                members[root] = [root, *(int(seq) for seq in (row or "").split(",") if seq)]
            missing = [seq for seqs in members.values() for seq in seqs if seq not in have]
            have |= {step.seq: step for step in await self.steps(missing)}
        units: dict[int, Unit] = {}
        for step in steps:
            root = step.group or step.seq
            together = members.get(root, [root])
            units.setdefault(root, Unit(tuple(have[seq] for seq in together if seq in have)))
        return list(units.values())

    async def newest_first(self, after: int = 0) -> AsyncGenerator[Unit, None]:
        """The log backwards down to the step after `after`, by ever larger pages."""
        end, seen, size = str(self._upto), set(), PAGE
        while page := await self._redis.xrevrange(self._keys.log, end, f"{after + 1}-0", size):
            size = min(size + PAGE // 2, LONG_PAGE)
            for unit in await self.units(self._seen(page)):
                if unit.first not in seen:
                    seen.add(unit.first)
                    yield unit
            end = f"({page[-1][0]}"

    async def all_units(self) -> list[Unit]:
        """Every unit, in the order of the log. Linear in its length."""
        steps = await self.between(0, self._upto)
        together: dict[int, list[Step]] = {}
        for step in steps:
            together.setdefault(step.group or step.seq, []).append(step)
        return [Unit(tuple(unit)) for unit in together.values()]

    def _seen(self, page: Iterable[Any]) -> list[Step]:
        steps = [from_entry(*entry) for entry in page]
        return [s for s in steps if s.seq <= self._upto and s.seq not in self._hidden]
