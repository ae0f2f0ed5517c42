"""A unit: what enters a view together, a single step or a tool call with all its results."""

from dataclasses import dataclass

from burnish.memory.sessions.steps import Step


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
    def text(self) -> str:
        return "\n".join(step.text for step in self.steps)

    @property
    def tokens(self) -> int:
        return sum(step.tokens for step in self.steps)
