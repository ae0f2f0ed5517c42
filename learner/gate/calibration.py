"""Calibration: which families tell something about a base.

A family that the base hardly ever solves cannot get worse, and rehearsing it has no gradient: those of packs
that want to be fitted to the base are left out. One that it nearly always solves has no gradient either,
but can be lost: the gate asks it by itself. Skill as a whole is measured on the families between. All of it
follows from the base's own answers, which are kept on disk.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

SOLVED = (0.1, 0.95)  # share of its tasks within which a family tells most
Solved = tuple[int, int]  # right answers, of how many


@dataclass(frozen=True)
class Calibration:
    """Families by what the base makes of them, in the order of the packs. `solved`: of how many tasks it got
    how many right; `never` and `always`: of those that want it, the ones below and above SOLVED."""

    solved: Mapping[str, Solved] = field(default_factory=dict)
    never: tuple[str, ...] = ()
    always: tuple[str, ...] = ()

    @property
    def rates(self) -> Mapping[str, float]:
        """The share of each family's tasks that the base gets right."""
        return {family: right / asked for family, (right, asked) in self.solved.items()}

    @property
    def unrehearsed(self) -> frozenset[str]:
        return frozenset(self.never + self.always)

    @property
    def counted(self) -> frozenset[str]:
        """Those that make up skill as a whole."""
        low, high = SOLVED
        return frozenset(family for family, rate in self.rates.items() if low <= rate <= high)

    @property
    def notes(self) -> list[str]:
        """What is left out, as sentences."""
        told = (
            (self.never, "left out, since the base hardly ever solves them"),
            (self.always, "asked by the gate alone, since the base nearly always solves them"),
        )
        return [f"{', '.join(families)} {why}" for families, why in told if families]


def calibrate(verdicts: Mapping[str, Collection[bool]], calibrated: Collection[str]) -> Calibration:
    """Sort families by the verdicts on the base's answers; `calibrated`: those that want it."""
    low, high = SOLVED
    found = Calibration({f: (sum(right), len(right)) for f, right in verdicts.items() if right})
    rates = found.rates.items()
    return replace(
        found,
        never=tuple(family for family, rate in rates if family in calibrated and rate < low),
        always=tuple(family for family, rate in rates if family in calibrated and rate > high),
    )
