"""A unit: what enters a view together, a single step or a tool call with all its results."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from burnish.memory.sessions.steps import Step


def distinct(units: Iterable["Unit"]) -> list["Unit"]:
    """Each unit once, in the order given."""
    return list({unit.first: unit for unit in units}.values())


@dataclass(frozen=True)
class Unit:
    """What enters a view together: one step, or a tool call with its results.

    Its numbers are worked out once: a unit of an index is looked at by every request.
    """

    steps: tuple[Step, ...]
    form: str = ""  # how its steps were changed, "" for not at all

    @cached_property
    def first(self) -> int:
        return self.steps[0].seq

    @cached_property
    def last(self) -> int:
        return self.steps[-1].seq

    @cached_property
    def unanswered(self) -> tuple[str, ...]:
        """Its tool calls that have no result, by id."""
        if not self.steps[0].tool_calls:
            return ()
        answered = {step.tool_call_id for step in self.steps}
        return tuple(call for call in self.steps[0].call_ids if call not in answered)

    @property
    def text(self) -> str:
        return "\n".join(step.text for step in self.steps)

    @cached_property
    def tokens(self) -> int:
        return sum(step.tokens for step in self.steps)
