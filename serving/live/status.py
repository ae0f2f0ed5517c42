"""What is served of each policy, and what is reported to clients."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from burnish.serving.live.adapters import ServedVersion
from burnish.serving.registry import Canary


@dataclass(frozen=True)
class PolicyStatus:
    """What `/v1/policies` and `/readyz` report of one policy."""

    policy: str
    champion: int | None
    challenger: int | None
    previous: int | None
    resident: tuple[int, ...]
    problem: str | None
    swapped_at: float | None
    swaps: int
    share: float = 0.0  # of end users whom the challenger answers


@dataclass
class ServedPolicy:
    """One policy as served by this process."""

    champion: ServedVersion | None = None
    previous: ServedVersion | None = None
    challenger: ServedVersion | None = None  # answers the users of its canary
    canary: Canary | None = None  # as the registry has it
    before: int | None = None  # the version that served before the champion, also before a restart
    problem: str | None = None  # why the champion alias is not what is served
    swapped_at: float | None = None
    swaps: int = 0
    broken: dict[int, float] = field(default_factory=dict)  # version -> when to try it again

    def swap(self, fresh: ServedVersion) -> None:
        """Make `fresh` the champion. No await, so no request sees an intermediate state."""
        if self.champion is not None:
            self.swaps += 1
            self.before = self.champion.version
        self.previous, self.champion = self.champion, fresh
        self.swapped_at, self.problem = time.time(), None
        self.broken.clear()

    def status(
        self, name: str, resident: tuple[int, ...], registry_problem: str | None
    ) -> PolicyStatus:
        return PolicyStatus(
            policy=name,
            champion=self.champion.version if self.champion else None,
            challenger=self.challenger.version if self.challenger else None,
            previous=self.before,
            resident=resident,
            problem=self.problem or registry_problem,
            swapped_at=self.swapped_at,
            swaps=self.swaps,
            share=self.canary.share if self.canary else 0.0,
        )
