"""The interface of compaction policies: candidates and a budget in, a decision on each out.

A policy sees whole units (a step, or a tool call with its results), never tokens: cutting inside
steps breaks agents (AGORA, arXiv 2605.26596). Left out: fetching the steps, writing the summaries a
policy asks for, storing the plan, building the view, and the pinned floor, on which none decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from burnish.memory.sessions.plan import Action
from burnish.memory.sessions.units import Unit
from burnish.memory.views.forms import Price, cost, form


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


@dataclass(frozen=True)
class CompactionTask:
    """What a policy is asked: which candidates to show, for this query, within this budget."""

    candidates: Sequence[Candidate]  # in the order of the log
    query: str  # what the next prompt is about; by default the newest user step
    budget: int  # tokens for all candidates together; the floor is already paid


@dataclass(frozen=True)
class Decision:
    """What becomes of one candidate, and why."""

    action: Action
    score: float  # higher: more worth keeping
    why: str  # a few words for people, never words of the step: "BM25 3.1", "older than the tail"


class CompactionPolicy(Protocol):
    """Decides what a view shows. May raise PolicyFailed: another policy decides then."""

    @property
    def name(self) -> str: ...

    async def decide(self, task: CompactionTask) -> Sequence[Decision]:
        """One decision per candidate, in order; what stays costs at most `task.budget`."""
        ...


def spent(task: CompactionTask, decisions: Sequence[Decision]) -> int:
    """What these decisions cost, summaries apart."""
    pairs = zip(task.candidates, decisions, strict=True)
    return sum(candidate.cost(decision.action) for candidate, decision in pairs)


def newest(task: CompactionTask, available: int) -> set[int]:
    """Indexes of the newest candidates that fit `available` tokens, without a gap."""
    kept: set[int] = set()
    for place in range(len(task.candidates) - 1, -1, -1):
        available -= task.candidates[place].tokens
        if available < 0:
            break
        kept.add(place)
    return kept
