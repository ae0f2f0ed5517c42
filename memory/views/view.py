"""A view: which steps an agent sees within a token budget.

A `View` is filled in order of importance and rendered in the order of the log: the pinned
floor (system and task steps, open tool calls, pins), what a compaction kept and its summary
nodes, one block that quotes recalled steps, the recent tail. Steps enter whole or in a form that
says what it leaves out, and a tool call only together with its result. Left out: fetching,
ranking and deciding.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from burnish.memory.errors import BudgetTooSmall
from burnish.memory.sessions.steps import Step
from burnish.memory.sessions.units import Unit
from burnish.memory.views.quote import quote_block, quote_summary


class ViewMessage(TypedDict):
    """A chat message and the cursors of the steps it shows.

    `form` is "shorten" or "clear" where a step is not shown whole; `node` names a summary,
    whose steps (they may be thousands) `expand` gives.
    """

    role: str
    content: str
    cursors: list[str]
    name: NotRequired[str]
    tool_calls: NotRequired[list[dict]]
    tool_call_id: NotRequired[str]
    form: NotRequired[str]
    node: NotRequired[str]


class ContextView(TypedDict):
    """What `context` returns; `tokens` never exceeds the budget asked for."""

    messages: list[ViewMessage]
    tokens: int
    version: int
    plan: str | None


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
    """Fills up to `budget` tokens. `cost` prices one message's text, framing included."""

    def __init__(self, budget: int, cost: Callable[[str], int]) -> None:
        self.budget = budget
        self.tokens = 0
        self._cost = cost
        self._shown: dict[int, Unit] = {}
        self._nodes: list[SummaryNode] = []
        self._recalled: list[Unit] = []

    @property
    def seqs(self) -> set[int]:
        """Places of the steps that are shown, summaries and quotes apart."""
        return {step.seq for unit in self._shown.values() for step in unit.steps}

    @property
    def left(self) -> int:
        return self.budget - self.tokens

    def __contains__(self, unit: Unit) -> bool:
        return unit.first in self._shown or any(u.first == unit.first for u in self._recalled)

    def add_floor(self, units: Iterable[Unit]) -> None:
        """Show what must be shown. Raises BudgetTooSmall, which names the floor's size."""
        for unit in units:
            if unit not in self:
                self._show(unit)
        if self.tokens > self.budget:
            raise BudgetTooSmall(floor=self.tokens, budget=self.budget)

    def add(self, unit: Unit, available: int) -> int | None:
        """Show a unit if it costs at most `available` tokens. Its cost, or None if it does not fit."""
        if unit in self:
            return 0
        if unit.tokens > min(available, self.left):
            return None
        self._show(unit)
        return unit.tokens

    def add_node(self, node: SummaryNode, available: int) -> int | None:
        """Show a summary if it costs at most `available` tokens. Its cost, or None if not."""
        if node.tokens > min(available, self.left):
            return None
        self._nodes.append(node)
        self.tokens += node.tokens
        return node.tokens

    def recall(self, ranked: Sequence[Unit], available: int) -> None:
        """Quote the best of `ranked` that fit `available` tokens, in log order, in one block."""
        limit = min(available, self.left)
        remaining = limit - self._cost(quote_block(()))
        chosen: list[Unit] = []
        # What quoting adds to a step, estimated: a provenance line, and a mark per line.
        origin = self._cost("[10000 assistant 2026-01-01T00:00:00Z]\n> ") - 2 * self._cost("")
        for unit in ranked:
            price = sum(step.tokens + origin + step.text.count("\n") for step in unit.steps)
            if unit not in self and unit not in chosen and price <= remaining:
                chosen.append(unit)
                remaining -= price
        # Token counts do not add up exactly; the block as a whole is what counts.
        while chosen and (cost := self._cost(_block(chosen))) > limit:
            chosen.pop()
        if chosen:
            self.tokens += cost
            self._recalled = sorted(chosen, key=lambda unit: unit.first)

    def messages(self) -> list[ViewMessage]:
        """In the order of the log; the quoted block stands before the first newer step."""
        units = self._shown.values()
        parts = [(unit.first, [_message(s, unit.form) for s in unit.steps]) for unit in units]
        parts += [(node.sources[0], [_summary(node)]) for node in self._nodes]
        if self._recalled:
            steps = [step for unit in self._recalled for step in unit.steps]
            block = ViewMessage(
                role="user", content=quote_block(steps), cursors=[step.cursor for step in steps]
            )
            parts.append((self._recalled[-1].first, [block]))
        parts.sort(key=lambda part: part[0])
        return [message for _, messages in parts for message in messages]

    def _show(self, unit: Unit) -> None:
        self._shown[unit.first] = unit
        self.tokens += unit.tokens


def _block(units: Sequence[Unit]) -> str:
    ordered = sorted(units, key=lambda unit: unit.first)
    return quote_block([step for unit in ordered for step in unit.steps])


def _message(step: Step, form: str) -> ViewMessage:
    message = ViewMessage(**step.message(), cursors=[step.cursor])  # type: ignore[typeddict-item]
    if form:
        message["form"] = form
    return message


def _summary(node: SummaryNode) -> ViewMessage:
    return ViewMessage(
        role="user",
        content=node.content,
        cursors=[],
        node=node.id,
    )
