"""The units of sessions, priced and indexed, kept in this process between requests.

A step never changes, so what was read, priced and counted once stays true: a request reads only what
was appended since. Every request brings a snapshot fresh from Redis, by which appends of other
processes, deletions and erasures are seen: a session from which something was erased is read anew,
and a snapshot that the index cannot give exactly is read from the log for itself. Bounded: the
sessions used longest ago go first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from burnish.memory.compaction.candidates import CandidateIndex, Candidates, candidate
from burnish.memory.compaction.columns import Column
from burnish.memory.sessions.keys import SessionKeys
from burnish.memory.sessions.log import SessionLog
from burnish.memory.sessions.scripts import Scripts
from burnish.memory.sessions.snapshot import SessionSnapshot
from burnish.memory.sessions.steps import Step
from burnish.memory.sessions.units import Unit, distinct
from burnish.memory.views.forms import Price
from burnish.memory.views.view import View

MOST_CHARACTERS = 16 * 1024 * 1024  # of text in all sessions; each takes about ten bytes
THREADED = 8  # units read at once: more are priced where nobody waits for the event loop


class SessionUnits:
    """The units of one snapshot, in the order of the log."""

    def __init__(self, index: CandidateIndex, rows: np.ndarray, first: np.ndarray) -> None:
        self.all = Candidates(index, rows)
        self._first = first  # [units] the first step of each, ascending

    def newest_first(self) -> Iterator[Unit]:
        """From the newest on, by their first steps."""
        return (self.all[place].unit for place in range(len(self.all) - 1, -1, -1))

    def asked(self) -> list[Unit]:
        """The newest unit of a user; the newest of all where there is none."""
        users = (unit for unit in self.newest_first() if unit.steps[0].role == "user")
        return list(islice(users, 1)) or list(islice(self.newest_first(), 1))

    def holding(self, seqs: Iterable[int]) -> list[Unit]:
        """The units of these steps, each once, in the order given; those not here are left out."""
        return distinct(
            self.all[place].unit for place in map(self._place, seqs) if place is not None
        )

    def without(self, view: View) -> Candidates:
        """All but what a view shows whole."""
        shown = np.array(sorted(view.seqs), np.int64)
        places = set(np.flatnonzero(np.isin(self._first, shown)).tolist())
        # A system step that says what another says is as good as shown.
        places |= set(np.flatnonzero(self.all.table.system[self.all.rows]).tolist())
        return self.all.without([p for p in sorted(places) if view.shows_whole(self.all[p].unit)])

    def _place(self, seq: int) -> int | None:
        """Where the unit of that step is."""
        near = int(np.searchsorted(self._first, seq, side="right")) - 1
        # A result that came late stands behind units that began after its call.
        for place in range(near, -1, -1):
            if any(step.seq == seq for step in self.all[place].unit.steps):
                return place
        return None


@dataclass
class _Session:
    """One session as far as it was read; positions are units in the order of the log."""

    created: float
    erased: int
    upto: int = 0
    index: CandidateIndex = field(default_factory=CandidateIndex)
    first: Column = field(default_factory=lambda: Column(np.int64))
    last: Column = field(default_factory=lambda: Column(np.int64))
    row: Column = field(default_factory=lambda: Column(np.int64))
    steps: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, steps: Sequence[Step], price: Price) -> None:
        """Steps that follow: new units, or results that came to older ones."""
        groups: dict[int, list[Step]] = {}
        for step in steps:
            groups.setdefault(step.group or step.seq, []).append(step)
        for root, together in groups.items():
            place = int(np.searchsorted(self.first.values, root))
            if place < len(self.first) and self.first.values[place] == root:
                known = self.index.rows[self.row.values[place]].unit
                unit = Unit((*known.steps, *together))
                self.row.values[place] = self.index.add(candidate(unit, price))
                self.last.values[place] = unit.last
            elif together[0].group:
                raise LookupError(f"the call {root} of a result was not read")
            else:
                unit = Unit(tuple(together))
                self.first.append(root)
                self.last.append(unit.last)
                self.row.append(self.index.add(candidate(unit, price)))
        self.steps += len(steps)
        self.upto = max(self.upto, steps[-1].seq)

    def at(self, snapshot: SessionSnapshot) -> SessionUnits | None:
        """The units of that snapshot, or None where some of them are not whole in it."""
        n = int(np.searchsorted(self.first.values, snapshot.seq, side="right"))
        first, last, rows = self.first.values[:n], self.last.values[:n], self.row.values[:n]
        if (last > snapshot.seq).any():
            return None
        if not snapshot.hidden:
            return SessionUnits(self.index, rows.copy(), first)
        hidden = np.isin(first, list(snapshot.hidden))
        gone = sum(len(self.index.rows[row].unit.steps) for row in rows[hidden].tolist())
        if gone != sum(seq <= snapshot.seq for seq in snapshot.hidden):
            return None
        return SessionUnits(self.index, rows[~hidden], first[~hidden])


class SessionIndexes:
    """Of the sessions in one Redis, by key."""

    def __init__(self, price: Price, most: int = MOST_CHARACTERS) -> None:
        self._price = price
        self._most = most
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    async def units(
        self, redis: Any, keys: SessionKeys, scripts: Scripts, snapshot: SessionSnapshot
    ) -> SessionUnits:
        """The units of the snapshot. Linear in what was appended since the last one."""
        key = keys.log
        if snapshot.current:
            whole = SessionLog(redis, keys, scripts, snapshot.seq)
            session = self._session(key, snapshot)
            async with session.lock:
                found = await self._caught_up(session, whole, snapshot)
            self._forget_oldest(key)
            if found is not None:
                return found
            self._sessions.pop(key, None)
        log = SessionLog(redis, keys, scripts, snapshot.seq, snapshot.hidden)
        units = await log.all_units()
        priced = await asyncio.to_thread(lambda: [candidate(unit, self._price) for unit in units])
        first = np.array([one.unit.first for one in priced], np.int64)
        return SessionUnits(CandidateIndex(priced), np.arange(len(priced)), first)

    def drop(self, keys: SessionKeys) -> None:
        """Keep nothing of a session: something of it is erased."""
        self._sessions.pop(keys.log, None)

    def _session(self, key: str, snapshot: SessionSnapshot) -> _Session:
        erased = snapshot.seq - snapshot.steps
        known = self._sessions.get(key)
        if known is None or (known.created, known.erased) != (snapshot.created, erased):
            known = self._sessions[key] = _Session(snapshot.created, erased)
        self._sessions.move_to_end(key)
        return known

    async def _caught_up(
        self, session: _Session, whole: SessionLog, snapshot: SessionSnapshot
    ) -> SessionUnits | None:
        if session.upto < snapshot.seq:
            steps = await whole.between(session.upto, snapshot.seq)
            if steps and len(steps) > THREADED:
                await asyncio.to_thread(session.add, steps, self._price)
            elif steps:
                session.add(steps, self._price)
            session.upto = snapshot.seq
            if session.steps != snapshot.steps:  # erased while it was read
                return None
        return session.at(snapshot)

    def _forget_oldest(self, key: str) -> None:
        while sum(s.index.size for s in self._sessions.values()) > self._most:
            oldest = next(iter(self._sessions))
            if oldest == key and len(self._sessions) == 1:
                return
            del self._sessions[oldest]
