"""How many threads a step takes: all that it may, or one where the machine is busy with other work.

Threads meet many times within a step. While another process has the core of one of them, the others
wait for the scheduler at each meeting, and a step that one thread computes in half a millisecond takes
twenty. So both are timed, for steps of about the same size, and the faster one is used; the other is
tried again so seldom that trying costs a fiftieth at most. Results do not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

RECENT = 0.3  # weight of the last step in an average
COST = 0.02  # of the time, spent on trying what was slower
LARGEST = 9  # steps of more than 2^9 tokens meet seldom: they always take all threads


@dataclass
class _Size:
    """Steps of about the same size: seconds of one with all threads and with one."""

    seconds: dict[bool, float] = field(default_factory=dict)  # alone -> average
    untried: int = 0  # steps since both were timed

    def alone(self) -> bool:
        """Whether the next step takes one thread."""
        if False not in self.seconds:
            return False
        if True not in self.seconds:
            return True
        faster = self.seconds[True] < self.seconds[False]
        slow, fast = max(self.seconds.values()), min(self.seconds.values())
        return faster != (self.untried * COST * fast > slow - fast)


class ThreadCount:
    """Chooses for each step, from how long the last ones took."""

    def __init__(self) -> None:
        self._sizes: dict[int, _Size] = {}

    def choose(self, tokens: int, most: int) -> int:
        """Threads of a step of that many tokens, at most `most`."""
        size = tokens.bit_length()
        if most == 1 or size > LARGEST:
            return most
        return 1 if self._sizes.setdefault(size, _Size()).alone() else most

    def record(self, tokens: int, threads: int, most: int, seconds: float) -> None:
        """A step, or each of several in one call, took that long."""
        size = self._sizes.get(tokens.bit_length())
        if most == 1 or size is None:
            return
        alone, known = threads == 1, size.seconds
        usual = min(known, key=lambda key: known[key], default=alone)
        tried = alone != usual  # what was measured long ago tells nothing
        before = known.get(alone, seconds)
        known[alone] = seconds if tried else before + RECENT * (seconds - before)
        size.untried = 0 if tried else size.untried + 1
