"""Candidates: the units a policy decides on, with their prices, and what is known of them once.

A `CandidateIndex` grows with a log: prices as columns, term counts for BM25, passages for the learned
scorer, marks for the rubric. What a request needs is then arithmetic over columns, however long the
log is. `Candidates` are some of its rows in the order of the log. Left out: keeping indexes between
requests (session_index.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import RLock
from typing import overload

import numpy as np
from burnish.memory.compaction.columns import Column
from burnish.memory.compaction.passages import PassageIndex, read_passages
from burnish.memory.compaction.rubric_marks import marks_of
from burnish.memory.compaction.summaries import WrittenNodes
from burnish.memory.search.bm25 import Postings
from burnish.memory.search.terms import query_terms, terms
from burnish.memory.sessions.plan import Action
from burnish.memory.sessions.units import Unit
from burnish.memory.views.forms import Price, cost, form
from burnish.memory.views.messages import SYSTEM


@dataclass(frozen=True)
class Candidate:
    """A unit off the floor, with what it costs in each form, in tokens, framing included."""

    unit: Unit
    tokens: int
    short: int
    cleared: int

    def cost(self, action: Action) -> int:
        """Tokens in the view; a summarised unit is paid for by its node, not here."""
        match action:
            case Action.KEEP:
                return self.tokens
            case Action.SHORTEN:
                return self.short
            case Action.CLEAR:
                return self.cleared
            case _:
                return 0


def candidate(unit: Unit, price: Price) -> Candidate:
    """The unit priced in each form."""
    short, cleared = (cost(form(unit, v, price), price) for v in (Action.SHORTEN, Action.CLEAR))
    return Candidate(unit, cost(unit, price), short, cleared)


class CandidateIndex:
    """A row for each candidate that was ever added; a row never changes.

    What only some policies need (term counts, passages, marks) is caught up with when first asked for.
    """

    def __init__(self, candidates: Sequence[Candidate] = ()) -> None:
        self.rows: list[Candidate] = []
        self.size = 0  # characters of text, by which a cache bounds its memory
        self._tokens, self._short, self._cleared = (Column(np.int64) for _ in range(3))
        self._tools, self._system = Column(np.bool_), Column(np.bool_)
        self._postings = Postings()
        self._passages = PassageIndex()
        self._marks = Column(np.int8)
        self.written = WrittenNodes()
        self._lock = RLock()
        for one in candidates:
            self.add(one)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, one: Candidate) -> int:
        """One more; its row."""
        with self._lock:
            self.rows.append(one)
            self.size += sum(len(step.content) for step in one.unit.steps) + 200
            self._tokens.append(one.tokens)
            self._short.append(one.short)
            self._cleared.append(one.cleared)
            self._tools.append(any(step.role == "tool" for step in one.unit.steps))
            self._system.append(one.unit.steps[0].role in SYSTEM)
            return len(self.rows) - 1

    def prices(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[rows] tokens of each candidate whole, shortened and cleared."""
        return self._tokens.values, self._short.values, self._cleared.values

    @property
    def tools(self) -> np.ndarray:
        """[rows] whether it is a tool call with results."""
        return self._tools.values

    @property
    def system(self) -> np.ndarray:
        """[rows] whether it is a system step."""
        return self._system.values

    def bm25(self, query: str, alive: np.ndarray) -> np.ndarray:
        """[rows] the BM25 score of each row for the query; 0 where it is not `alive` [rows]."""
        with self._lock:
            for one in self.rows[len(self._postings) :]:
                self._postings.add(terms(one.unit.text))
            padded = np.zeros(len(self._postings), bool)
            padded[: len(alive)] = alive
            return self._postings.scores(query_terms(query), padded)[: len(alive)]

    @property
    def marks(self) -> np.ndarray:
        """[rows] what the rubric sees in each (rubric_marks.py)."""
        with self._lock:
            for one in self.rows[len(self._marks.values) :]:
                self._marks.append(marks_of(one.unit))
            return self._marks.values

    def passages(self) -> PassageIndex:
        with self._lock:
            for one in self.rows[len(self._passages) :]:
                self._passages.add(read_passages(one.unit, one.tokens, one.short))
            return self._passages


class Candidates(Sequence[Candidate]):
    """Rows of an index, in the order of the log."""

    def __init__(self, index: CandidateIndex, rows: np.ndarray) -> None:
        self.table = index
        self.rows = rows
        self.tokens, self.short, self.cleared = (price[rows] for price in index.prices())

    @property
    def tools(self) -> np.ndarray:
        return self.table.tools[self.rows]

    @property
    def marks(self) -> np.ndarray:
        return self.table.marks[self.rows]

    def bm25(self, query: str) -> np.ndarray:
        """[n] float32: as search/bm25.py scores these texts."""
        alive = np.zeros(len(self.table), bool)
        alive[self.rows] = True
        return self.table.bm25(query, alive)[self.rows]

    def without(self, places: Sequence[int]) -> Candidates:
        """All but those at these places."""
        return Candidates(self.table, np.delete(self.rows, list(places))) if places else self

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Candidate: ...
    @overload
    def __getitem__(self, place: slice) -> list[Candidate]: ...
    def __getitem__(self, place: int | slice) -> Candidate | list[Candidate]:
        if isinstance(place, slice):
            return [self.table.rows[row] for row in self.rows[place].tolist()]
        return self.table.rows[self.rows[place]]


def candidates_of(candidates: Sequence[Candidate]) -> Candidates:
    """As they are, or indexed now."""
    if isinstance(candidates, Candidates):
        return candidates
    return Candidates(CandidateIndex(candidates), np.arange(len(candidates)))
