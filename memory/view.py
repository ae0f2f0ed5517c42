"""Which steps an agent sees within a token budget: floor, recalled, tail.

A `View` is filled in that order of importance and rendered in the order of the log:
the pinned floor (system and task steps, open tool calls, pins), one block that quotes
recalled steps, the recent tail. It is plain arithmetic on steps it is handed; fetching
and ranking are the store's. Steps enter whole or not at all, and a tool call only
together with its result. Left out: summaries and learned policies.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from burnish.memory.errors import BudgetTooSmall
from burnish.memory.quote import quote_block, quote_step
from burnish.memory.steps import Step


class ViewMessage(TypedDict):
    """A chat message and the cursors of the steps it is made of."""

    role: str
    content: str
    cursors: list[str]
    name: NotRequired[str]
    tool_calls: NotRequired[list[dict]]
    tool_call_id: NotRequired[str]


class ContextView(TypedDict):
    """What `context` returns; `tokens` never exceeds the budget asked for."""

    messages: list[ViewMessage]
    tokens: int
    version: int


@dataclass(frozen=True)
class Unit:
    """What enters a view together: one step, or a tool call with its results."""

    steps: tuple[Step, ...]

    @property
    def first(self) -> int:
        return self.steps[0].seq

    @property
    def text(self) -> str:
        return "\n".join(step.text for step in self.steps)


class View:
    """Fills up to `budget` tokens. `cost` prices one message's text, framing included."""

    def __init__(self, budget: int, cost: Callable[[str], int]) -> None:
        self.budget = budget
        self.tokens = 0
        self._cost = cost
        self._shown: dict[int, Unit] = {}
        self._recalled: list[Unit] = []

    @property
    def left(self) -> int:
        return self.budget - self.tokens

    def __contains__(self, unit: Unit) -> bool:
        return unit.first in self._shown or unit in self._recalled

    def add_floor(self, units: Iterable[Unit]) -> None:
        """Take what must be there. Raises BudgetTooSmall, which names the floor's size."""
        for unit in units:
            if unit not in self:
                self._show(unit)
        if self.tokens > self.budget:
            raise BudgetTooSmall(floor=self.tokens, budget=self.budget)

    def add_recent(self, unit: Unit, room: int) -> int | None:
        """Take the next older unit of the tail, if at most `room`. Its cost, or None: no room."""
        if unit in self:
            return 0
        price = self._price(unit)
        if price > min(room, self.left):
            return None
        self._show(unit)
        return price

    def recall(self, ranked: Sequence[Unit]) -> None:
        """Quote the best of `ranked` that fit, in the order of the log, in one block."""
        room = self.left - self._cost(quote_block(()))
        chosen: list[Unit] = []
        for unit in ranked:
            price = sum(self._cost(quote_step(step)) for step in unit.steps)
            if unit not in self and unit not in chosen and price <= room:
                chosen.append(unit)
                room -= price
        # Token counts do not add up exactly; the block as a whole is what counts.
        while chosen and self._cost(_block(chosen)) > self.left:
            chosen.pop()
        if chosen:
            self.tokens += self._cost(_block(chosen))
            self._recalled = sorted(chosen, key=lambda unit: unit.first)

    def messages(self) -> list[ViewMessage]:
        """In the order of the log; the quoted block stands before the first newer step."""
        shown = sorted(self._shown.values(), key=lambda unit: unit.first)
        rendered = [(unit.first, _message(step)) for unit in shown for step in unit.steps]
        if not self._recalled:
            return [message for _, message in rendered]
        newest = self._recalled[-1].first
        steps = [step for unit in self._recalled for step in unit.steps]
        block = ViewMessage(
            role="user", content=quote_block(steps), cursors=[step.cursor for step in steps]
        )
        before = [message for first, message in rendered if first < newest]
        after = [message for first, message in rendered if first > newest]
        return [*before, block, *after]

    def _show(self, unit: Unit) -> None:
        self._shown[unit.first] = unit
        self.tokens += self._price(unit)

    def _price(self, unit: Unit) -> int:
        return sum(self._cost(step.text) for step in unit.steps)


def _block(units: Sequence[Unit]) -> str:
    ordered = sorted(units, key=lambda unit: unit.first)
    return quote_block([step for unit in ordered for step in unit.steps])


def _message(step: Step) -> ViewMessage:
    return ViewMessage(**step.message(), cursors=[step.cursor])  # type: ignore[typeddict-item]
