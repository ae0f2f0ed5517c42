"""Calibration: which families of the built-in pack tell something about a base.

A family that the base never solves cannot get worse, and rehearsing it has no gradient: it is left out.
One that it always solves has no gradient either, but can be lost: the gate alone asks it. Both follow
from the base's own answers to the gate's suite, which are kept on disk per model.
"""

from __future__ import annotations

from dataclasses import dataclass

from burnish.learner.gate.suite import EvalResult, Suite


@dataclass(frozen=True)
class Calibration:
    """Families by what the base makes of them, in the order of the packs."""

    never: tuple[str, ...] = ()
    always: tuple[str, ...] = ()

    @property
    def unrehearsed(self) -> frozenset[str]:
        return frozenset(self.never + self.always)

    @property
    def notes(self) -> list[str]:
        """What is left out, as sentences."""
        told = (
            (self.never, "left out, since the base never solves them"),
            (self.always, "asked by the gate alone, since the base always solves them"),
        )
        return [f"{', '.join(families)} {why}" for families, why in told if families]


def calibrate(suite: Suite, base: EvalResult) -> Calibration:
    """Of the families that want it, those that `base` never and those that it always solves."""
    right: dict[str, list[bool]] = {family: [] for family in suite.source.families}
    for task, verdict in zip(suite.tasks, base.right, strict=True):
        if verdict is not None:
            right[task.family].append(verdict)
    wanted = [family for family in right if family in suite.source.calibrated and right[family]]
    return Calibration(
        never=tuple(family for family in wanted if not any(right[family])),
        always=tuple(family for family in wanted if all(right[family])),
    )
