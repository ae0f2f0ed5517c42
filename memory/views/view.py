"""A view: which steps an agent sees within a token budget.

A `View` is filled in order of importance and rendered in the order of the log: the pinned floor
(system and task steps, pins), rules, the newest exchange, what a compaction kept and its summary
nodes, one block that quotes recalled steps, the newest of the rest. Steps enter whole or in a form
that says what it leaves out, and a tool call only together with its results; where one never came, a
stand-in says so. Left out: fetching, ranking and deciding; how it is written out (messages.py).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from burnish.memory.errors import BudgetTooSmall
from burnish.memory.sessions.units import Unit
from burnish.memory.views.forms import cost, fitted
from burnish.memory.views.messages import (
    SYSTEM,
    ViewMessage,
    block_of,
    notice,
    written_out,
)
from burnish.memory.views.quote import quote_block, quote_summary


@dataclass(frozen=True)
class SummaryNode:
    """A summary, made from raw steps only. `tokens` is what its message costs."""

    id: str
    sources: tuple[int, ...]  # steps, in the order of the log
    text: str
    tokens: int
    made_by: str  # "model" or "extract"

    @property
    def content(self) -> str:
        return quote_summary(self.id, self.sources, self.text)


class View:
    """Fills up to `budget` tokens. `price` is that of one message's text, framing included."""

    def __init__(self, budget: int, price: Callable[[str], int]) -> None:
        self.budget = budget
        self.tokens = 0
        self.price = price
        self.nodes: list[SummaryNode] = []
        self._shown: dict[int, Unit] = {}
        self._system: set[str] = set()  # what system steps say: equal ones count once
        self._recalled: list[Unit] = []
        self._settled: frozenset[int] = frozenset()
        self._notice = ""

    @property
    def seqs(self) -> set[int]:
        """Places of the steps that are shown, summaries and quotes apart."""
        return {step.seq for unit in self._shown.values() for step in unit.steps}

    @property
    def quoted(self) -> set[int]:
        """Places of the steps that are quoted."""
        return {step.seq for unit in self._recalled for step in unit.steps}

    @property
    def shortened(self) -> int:
        """How many units are shown in a shorter form."""
        return sum(bool(unit.form) for unit in self._shown.values())

    @property
    def left(self) -> int:
        return self.budget - self.tokens

    def __contains__(self, unit: Unit) -> bool:
        return (
            unit.first in self._shown
            or any(u.first == unit.first for u in self._recalled)
            or (unit.steps[0].role in SYSTEM and unit.text in self._system)
        )

    def shows_whole(self, unit: Unit) -> bool:
        return unit in self and not getattr(self._shown.get(unit.first), "form", "")

    def add_floor(self, units: Iterable[Unit], beside: int = 0) -> None:
        """Show what must be shown, and keep `beside` tokens free. Raises BudgetTooSmall, which names
        what both take."""
        for unit in units:
            if unit not in self:
                self._show(unit)
        if self.tokens + beside > self.budget:
            raise BudgetTooSmall(floor=self.tokens + beside, budget=self.budget)

    def add(self, unit: Unit, available: int) -> int | None:
        """Show a unit, or more of it than is shown, if that costs at most `available` tokens more.
        The tokens it took, or None if it does not fit."""
        if self.shows_whole(unit):
            return 0
        shown = self._shown.get(unit.first)
        had = cost(shown, self.price) if shown else 0
        paid = cost(unit, self.price) - had
        if paid > min(available, self.left):
            return 0 if shown else None
        if paid > 0:
            self.tokens -= had
            self._show(unit)
        return max(paid, 0)

    def add_cut(self, unit: Unit) -> None:
        """Show as much of a unit as the tokens left allow."""
        shown = self._shown.get(unit.first)
        had = cost(shown, self.price) if shown else 0
        if (part := fitted(unit, self.left + had, self.price)) is not None:
            self.add(part, self.left)

    def add_node(self, node: SummaryNode, available: int) -> int | None:
        """Show a summary if it costs at most `available` tokens. Its cost, or None if not."""
        if node.tokens > min(available, self.left):
            return None
        self.nodes.append(node)
        self.tokens += node.tokens
        return node.tokens

    def recall(self, ranked: Sequence[Unit], available: int) -> None:
        """Quote the best of `ranked` that fit `available` tokens, in log order, in one block."""
        limit = min(available, self.left)
        block, origin = _quoting(self.price)
        remaining = limit - block
        chosen: list[Unit] = []
        for unit in ranked:
            # A provenance line for each step, and a mark for each of its lines.
            price = sum(step.tokens + origin + step.text.count("\n") for step in unit.steps)
            if unit not in self and unit not in chosen and price <= remaining:
                chosen.append(unit)
                remaining -= price
        # Token counts do not add up exactly; the block as a whole is what counts.
        while chosen and (paid := self.price(block_of(chosen))) > limit:
            over = paid - limit
            while chosen and over > 0:
                over -= chosen.pop().tokens
        if chosen:
            self.tokens += paid
            self._recalled = sorted(chosen, key=lambda unit: unit.first)

    def settle(self) -> None:
        """What is shown now is not taken out again."""
        self._settled = frozenset(self._shown)

    def open_with_user(self, steps: int) -> None:
        """Let a user message come first, as some providers demand of a part of a conversation: where
        another would, a notice says how many of the session's `steps` are left out."""
        missing = steps - len(self.seqs | self.quoted)
        while missing > 0 and not self._begins_with_user():
            told = notice(missing)
            if (paid := self.price(told)) <= self.left:
                self._notice = told
                self.tokens += paid
                return
            oldest = min(
                (unit for unit in self._shown.values() if unit.steps[0].role not in SYSTEM),
                key=lambda unit: unit.first,
            )
            had = cost(oldest, self.price)
            smaller = fitted(oldest, self.left + had - paid, self.price)
            if smaller is None and oldest.first in self._settled:
                return
            self.tokens -= had
            del self._shown[oldest.first]
            if smaller is not None:
                self._show(smaller)
            missing = steps - len(self.seqs | self.quoted)

    def trade_for(self, unit: Unit) -> None:
        """Show a part of a unit in place of the oldest that may go out, if that fills the view more."""
        loose = [u for u in self._shown.values() if u.first not in self._settled]
        if unit in self or not loose:
            return
        before, had = dict(self._shown), self.tokens
        oldest = min(loose, key=lambda u: u.first)
        del self._shown[oldest.first]
        self.tokens -= cost(oldest, self.price)
        self.add_cut(unit)
        if self.tokens <= had or not self._begins_with_user():
            self._shown, self.tokens = before, had

    def tell_missing(self, steps: int) -> None:
        """Open with a notice of how many of the session's `steps` are left out, if there is room."""
        missing = steps - len(self.seqs | self.quoted)
        told = notice(missing)
        if missing > 0 and not self._notice and self.price(told) <= self.left:
            self._notice = told
            self.tokens += self.price(told)

    def messages(self) -> list[ViewMessage]:
        """In the order of the log; the quoted block stands before the first newer step."""
        summaries = [(node.sources[0], node.id, node.content) for node in self.nodes]
        return written_out(list(self._shown.values()), summaries, self._recalled, self._notice)

    def _begins_with_user(self) -> bool:
        """Whether the first message that is no system message is a user's, or there is none."""
        if self._notice:
            return True
        shown = [
            (unit.first, role)
            for unit in self._shown.values()
            if (role := unit.steps[0].role) not in SYSTEM
        ]
        shown += [(node.sources[0], "user") for node in self.nodes]
        shown += [(self._recalled[-1].first, "user")] if self._recalled else []
        return min(shown, key=lambda part: part[0], default=(0, "user"))[1] == "user"

    def _show(self, unit: Unit) -> None:
        self._shown[unit.first] = unit
        self.tokens += cost(unit, self.price)
        if unit.steps[0].role in SYSTEM:
            self._system.add(unit.text)


@lru_cache(maxsize=16)
def _quoting(price: Callable[[str], int]) -> tuple[int, int]:
    """What an empty block costs, and what quoting adds to a step, estimated."""
    origin = price("[10000 assistant 2026-01-01T00:00:00Z]\n> ") - 2 * price("")
    return price(quote_block(())), origin
