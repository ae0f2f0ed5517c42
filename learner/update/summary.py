"""An update's line in the log: what was learnt, which version came of it, and who serves now."""

from __future__ import annotations

from burnish.learner.gate.report import GateReport
from burnish.learner.ticks import Tick
from burnish.learner.training.checkpoint import TrainingProgress
from burnish.serving.registry import PolicyVersion


def summarise(
    progress: TrainingProgress,
    version: PolicyVersion,
    report: GateReport,
    *,
    judgements: int,
    serves: bool,
    seconds: float,
) -> Tick:
    """The tick of a finished update; `serves`: the version is the champion now."""
    if not report.passed:
        outcome = "which the gate refused"
    elif serves:
        outcome = "which now serves"
    else:
        outcome = "which waits for someone to promote it"
    return Tick(
        id=progress.update,
        kind="update",
        policy=progress.policy,
        did=(
            f"learnt from {judgements} new judgements in {progress.step} steps "
            f"and registered {version.ref}, {outcome}"
        ),
        why_not=None if report.passed else f"gate: {report.why_not}",
        counts={
            "version": version.version,
            "parent": progress.parent,
            "judgements": judgements,
            "steps": progress.step,
            "train_seconds": progress.seconds,
            "gate_seconds": report.seconds,
            "gate_passed": report.passed,
            "gate_skill": round(report.skill, 4),
            "gate_base_skill": round(report.base_skill, 4),
            **{name: round(value, 4) for name, value in progress.figures.items()},
        },
        seconds=round(seconds, 3),
    )
