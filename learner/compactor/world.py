"""A simulated world: a log in the store's shape, and questions about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from burnish.memory import Step

Count = Callable[[str], int]
OVERHEAD = 6  # tokens that framing adds to a message, as the store counts them


@dataclass(frozen=True)
class WorldQuestion:
    """A question with its one right answer."""

    kind: str
    text: str
    answer: str
    evidence: tuple[int, ...]  # places of the steps that state it


@dataclass(frozen=True)
class World:
    """What happened, and what may be asked about it."""

    seed: int
    steps: tuple[Step, ...]
    questions: tuple[WorldQuestion, ...]

    @property
    def tokens(self) -> int:
        return sum(step.tokens for step in self.steps)


def rough_count(text: str) -> int:
    """An estimate of the tokens; training needs no exact count."""
    return 1 + len(text) // 4


class LogBuilder:
    """Builds a log in the store's shape: places from 1 on, calls paired with results."""

    def __init__(self, rng: Random, count: Count) -> None:
        self._rng, self._count = rng, count
        self.steps: list[Step] = []

    def say(self, role: str, content: str, **more: Any) -> int:
        """Append one step; its place."""
        seq = len(self.steps) + 1
        kind = "tool_call" if more.get("tool_calls") else "message"
        step = Step(
            id=f"s{seq}",
            role=role,
            content=content,
            kind=more.pop("kind", kind),
            seq=seq,
            tokens=0,
            at=1.7e9 + 60.0 * seq,
            **more,
        )
        tokens = self._count(step.text) + OVERHEAD
        self.steps.append(_with_tokens(step, tokens))
        return seq

    def call(self, tool: str, arguments: str, result: str) -> int:
        """A tool call and its result; the place of the result."""
        call = f"call-{len(self.steps) + 1}"
        function = {"name": tool, "arguments": arguments}
        calls = ({"id": call, "type": "function", "function": function},)
        group = self.say("assistant", "", tool_calls=calls)
        return self.say(
            "tool", result, name=tool, tool_call_id=call, group=group, kind="tool_result"
        )


def _with_tokens(step: Step, tokens: int) -> Step:
    object.__setattr__(step, "tokens", tokens)  # counted from the very text it holds
    return step
