"""The compactor's own gate: held-out worlds at fixed budgets, candidate against champion.

Both decide on the same questions, so they are compared question by question; a candidate passes
unless it is worse by more than luck explains. The worlds have held-out words, and seeds apart from
those that the benchmark measures on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from burnish.learner.compactor.episodes import Arena
from burnish.learner.compactor.figures import trial
from burnish.learner.compactor.worlds import make_world
from burnish.learner.gate.checks import ONE_SIDED_95, paired_difference
from burnish.learner.gate.report import Check
from burnish.memory.compaction.policies.learned import Learned
from burnish.memory.compaction.scorer import Scorer
from pydantic import BaseModel

SEEDS = 900_000_000  # from here on
SHARES = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Limits:
    worlds: int = 6
    margin: float = 0.01  # of the score, beyond luck


class CompactorReport(BaseModel):
    """The gate's verdict; `score` and `champion` by budget share."""

    passed: bool
    suite: str
    seconds: float
    checks: list[Check]
    score: dict[str, float]
    champion: dict[str, float]

    @property
    def why_not(self) -> str | None:
        return "; ".join(check.says for check in self.checks if not check.passed) or None


def examine(candidate: Scorer, champion: Scorer, limits: Limits | None = None) -> CompactorReport:
    """Put a candidate beside the champion."""
    limits = limits or Limits()
    began = time.monotonic()
    arenas = _arenas(limits.worlds)
    checks, scores = [], ({}, {})
    for share in SHARES:
        new, old = _right(candidate, arenas, share), _right(champion, arenas, share)
        scores[0][f"{share:g}"], scores[1][f"{share:g}"] = _mean(new), _mean(old)
        moved, error = paired_difference(old, new)
        low = -(limits.margin + ONE_SIDED_95 * error)
        checks.append(
            Check(
                name=f"score at {share:g}",
                value=moved,
                low=low,
                passed=moved >= low,
                says=f"score kept at {share:.0%} of the tokens moved by {moved:+.3f}"
                f" against the champion (allowed: {low:.3f})",
            )
        )
    return CompactorReport(
        passed=all(check.passed for check in checks),
        suite=f"heldout-{SEEDS}-{limits.worlds}",
        seconds=round(time.monotonic() - began, 3),
        checks=checks,
        score=scores[0],
        champion=scores[1],
    )


@lru_cache(maxsize=2)
def _arenas(worlds: int) -> tuple[Arena, ...]:
    return tuple(Arena(make_world(SEEDS + seed, "heldout")) for seed in range(worlds))


def _right(scorer: Scorer, arenas: Sequence[Arena], share: float) -> list[bool]:
    policy = Learned(scorer)
    return [
        trial(policy.decided, arena, question, share)[0]
        for arena in arenas
        for question in arena.world.questions
    ]


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / max(len(values), 1)
