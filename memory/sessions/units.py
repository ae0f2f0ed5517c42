"""A unit: what enters a view together, a single step or a tool call with all its results."""

from collections.abc import Iterable
from dataclasses import dataclass

from burnish.memory.sessions.steps import Step


def distinct(units: Iterable["Unit"]) -> list["Unit"]:
    """Each unit once, in the order given."""
    return list({unit.first: unit for unit in units}.values())


@dataclass(frozen=True)
class Unit:
    """What enters a view together: one step, or a tool call with its results."""

    steps: tuple[Step, ...]
    form: str = ""  # how its steps were changed, "" for not at all

    @property
    def first(self) -> int:
        return self.steps[0].seq

    @property
    def last(self) -> int:
        return self.steps[-1].seq

    @property
    def unanswered(self) -> tuple[str, ...]:
        """Its tool calls that have no result, by id."""
        answered = {step.tool_call_id for step in self.steps}
        return tuple(call for call in self.steps[0].call_ids if call not in answered)

    @property
    def text(self) -> str:
        return "\n".join(step.text for step in self.steps)

    @property
    def tokens(self) -> int:
        return sum(step.tokens for step in self.steps)
