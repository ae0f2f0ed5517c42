"""What a comparison has shown, as checks: a candidate beside one reference.

Left out: figures of how a candidate answers (manner.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from burnish.learner.gate.comparison import Comparison, Paired
from burnish.learner.gate.report import Check


def tasks(count: int) -> Check:
    """There is something to try a candidate on."""
    return Check(
        name="tasks",
        value=count,
        low=1,
        passed=count > 0,
        says="no task of BURNISH_TASKS can be put to this model, so nothing can be tested",
    )


def skill(found: Comparison, reference: str) -> Check:
    """All skills together have not fallen by more than the margin."""
    paired = found.whole[reference]
    return _proven("skill", "skill", paired, reference, found.lost)


def families(found: Comparison, reference: str, names: Collection[str], what: str) -> Check:
    """None of these lines has lost more than its margin; the worst of them is told. `what` they are."""
    worst = {"lost": 0, "undecided": 1, "kept": 2}
    of = {name: paired for name, paired in found.by_line[reference].items() if name in names}
    ranked = sorted(of, key=lambda n: (worst[of[n].verdict], of[n].bounds.lower + of[n].margin))
    check = _proven(what, ranked[0], of[ranked[0]], reference, found.lost)
    same = [name for name in ranked[1:] if of[name].verdict == of[ranked[0]].verdict]
    if check.passed or not same:
        return check
    return check.model_copy(update={"says": f"{check.says}, and so for {', '.join(same)}"})


def paired_difference(old: Sequence[float], new: Sequence[float]) -> tuple[float, float]:
    """Mean of new - old over paired tasks, and its standard error."""
    differences = [float(b) - float(a) for a, b in zip(old, new, strict=True)]
    average = mean(differences)
    variance = mean([(d - average) ** 2 for d in differences])
    return average, math.sqrt(variance / max(len(differences), 1))


def mean(values: Sequence[float] | Sequence[int] | Sequence[bool]) -> float:
    """The arithmetic mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def _proven(name: str, told: str, paired: Paired, reference: str, stopped: bool) -> Check:
    """A paired comparison in words; `stopped`: no more was asked since something is lost."""
    change, low = paired.seen.mean, -paired.margin
    lower, upper = paired.bounds.lower, paired.bounds.upper
    moved = f"{told} moved by {change:+.3f} against the {reference}"
    allowed = f"(allowed: {low:+.2f})"
    says = {
        "kept": f"{moved}, and surely by {lower:+.3f} at least {allowed}",
        "lost": f"{moved}, and surely by {upper:+.3f} at most {allowed}",
        "undecided": f"{moved}, and {lower:+.3f} to {upper:+.3f} is possible after"
        f" {paired.seen.count} tasks {allowed}: "
        + ("not asked to the end" if stopped else "undecided, which does not pass"),
    }[paired.verdict]
    return Check(
        name=f"{name}/{reference}",
        value=change,
        low=low,
        passed=paired.verdict == "kept",
        says=says,
        bounds=(lower, upper),
        undecided=paired.verdict == "undecided",
    )
