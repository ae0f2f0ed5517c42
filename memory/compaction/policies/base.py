"""The interface of compaction policies: candidates and a budget in, a decision on each out.

A policy sees whole units (a step, or a tool call with its results), never tokens: cutting inside
steps breaks agents (AGORA, arXiv 2605.26596). Left out: fetching the steps, writing the summaries a
policy asks for, storing the plan, building the view, and the pinned floor, on which none decides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, overload

import numpy as np
from burnish.memory.compaction.candidates import (
    Candidate,
    CandidateIndex,
    Candidates,
    candidate,
    candidates_of,
)
from burnish.memory.sessions.plan import Action

__all__ = [
    "ACTIONS",
    "Candidate",
    "CandidateIndex",
    "Candidates",
    "CompactionPolicy",
    "CompactionTask",
    "Decision",
    "Decisions",
    "candidate",
    "fits_newest",
    "spent",
]

ACTIONS = tuple(Action)
NUMBER = {action: number for number, action in enumerate(ACTIONS)}  # in arrays of actions


@dataclass(frozen=True)
class CompactionTask:
    """What a policy is asked: which candidates to show, for this query, within this budget."""

    candidates: Sequence[Candidate]  # in the order of the log
    query: str  # what the next prompt is about; by default the newest user step
    budget: int  # tokens for all candidates together; the floor is already paid

    @cached_property
    def log(self) -> Candidates:
        """The candidates with what is known of them once for all queries."""
        return candidates_of(self.candidates)


@dataclass(frozen=True)
class Decision:
    """What becomes of one candidate, and why."""

    action: Action
    score: float  # higher: more worth keeping
    why: str  # a few words for people, never words of the step: "BM25 3.1", "older than the tail"


class Decisions(Sequence[Decision]):
    """Decisions as columns: a log has thousands of units, and a view shows a few of them.

    `actions` [n] index ACTIONS, `scores` [n]; `why` is asked for the reason only where somebody reads
    it.
    """

    def __init__(
        self, actions: np.ndarray, scores: np.ndarray, why: Callable[[int], str], trace: str = ""
    ) -> None:
        self.actions = actions
        self.scores = scores
        self.why = why
        self.trace = trace  # how a learned policy sampled them, see policies/learned.py

    @classmethod
    def of(cls, decisions: Sequence[Decision]) -> "Decisions":
        if isinstance(decisions, Decisions):
            return decisions
        actions = np.array([NUMBER[d.action] for d in decisions], np.int8)
        scores = np.array([d.score for d in decisions], float)
        return cls(actions, scores, lambda place: decisions[place].why)

    def action(self, place: int) -> Action:
        return ACTIONS[self.actions[place]]

    def places(self, *actions: Action) -> list[int]:
        """Where these actions are, in the order of the log."""
        return np.flatnonzero(np.isin(self.actions, [NUMBER[a] for a in actions])).tolist()

    def dropped(self, places: Sequence[int] | np.ndarray, why: str) -> "Decisions":
        """The same, but for these, which are dropped."""
        gone = set(map(int, places))
        if not gone:
            return self
        actions = self.actions.copy()
        actions[list(gone)] = NUMBER[Action.DROP]
        return Decisions(
            actions,
            self.scores,
            lambda place: why if place in gone else self.why(place),
            self.trace,
        )

    def __len__(self) -> int:
        return len(self.actions)

    @overload
    def __getitem__(self, place: int) -> Decision: ...
    @overload
    def __getitem__(self, place: slice) -> list[Decision]: ...
    def __getitem__(self, place: int | slice) -> Decision | list[Decision]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        return Decision(self.action(place), float(self.scores[place]), self.why(place))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]


class CompactionPolicy(Protocol):
    """Decides what a view shows. May raise PolicyFailed: another policy decides then."""

    @property
    def name(self) -> str: ...

    async def decide(self, task: CompactionTask) -> Sequence[Decision]:
        """One decision per candidate, in order; what stays costs at most `task.budget`."""
        ...


def costs(task: CompactionTask, decisions: Decisions) -> np.ndarray:
    """[n] tokens each candidate takes of the view; a summarised one is paid for by its node."""
    log, actions = task.log, decisions.actions
    paid = np.where(actions == NUMBER[Action.KEEP], log.tokens, 0)
    paid += np.where(actions == NUMBER[Action.SHORTEN], log.short, 0)
    return paid + np.where(actions == NUMBER[Action.CLEAR], log.cleared, 0)


def spent(task: CompactionTask, decisions: Sequence[Decision]) -> int:
    """What these decisions cost, summaries apart."""
    return int(costs(task, Decisions.of(decisions)).sum())


def fits_newest(tokens: np.ndarray, available: int) -> int:
    """How many of the newest candidates fit `available` tokens, without a gap."""
    return int(np.searchsorted(np.cumsum(tokens[::-1]), available, side="right"))


def fits_in_order(order: np.ndarray, tokens: np.ndarray, available: int) -> list[int]:
    """Of the places in `order`, those that fit `available` tokens, each passed over if it does not."""
    kept: list[int] = []
    sizes = tokens[order]
    at = 0
    while at < len(order):
        # All that fits in a row at once, then past what does not fit.
        run = int(np.searchsorted(np.cumsum(sizes[at:]), available, side="right"))
        kept += order[at : at + run].tolist()
        available -= int(sizes[at : at + run].sum())
        fitting = np.flatnonzero(sizes[at + run :] <= available)
        if not len(fitting):
            break
        at += run + int(fitting[0])
    return kept
