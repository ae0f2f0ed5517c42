"""Calibration: which families tell something about a base.

A family that the base hardly ever solves cannot get worse, and rehearsing it has no gradient: those of packs
that want to be fitted to the base are left out. One that it nearly always solves has no gradient either,
but can be lost: the gate asks it by itself. Skill as a whole is measured on the families between. All of it
follows from the base's own answers, which are kept on disk.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

SOLVED = (0.1, 0.95)  # share of its tasks within which a family tells most


@dataclass(frozen=True)
class Calibration:
    """Families by what the base makes of them, in the order of the packs. `rates`: share of tasks right, of
    all; `never` and `always`: of those that want it, the ones below and above SOLVED."""

    rates: Mapping[str, float]
    never: tuple[str, ...] = ()
    always: tuple[str, ...] = ()

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
    rates = {family: sum(right) / len(right) for family, right in verdicts.items() if len(right)}
    return Calibration(
        rates,
        never=tuple(f for f, rate in rates.items() if f in calibrated and rate < low),
        always=tuple(f for f, rate in rates.items() if f in calibrated and rate > high),
    )
