"""An update's line in the log: what was learnt, which version came of it, and who serves now."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.learner.gate.report import GateReport
from burnish.learner.ticks import Tick
from burnish.learner.training.checkpoint import TrainingProgress
from burnish.serving.registry import PolicyVersion

NOTES = 4  # on tasks, that a line has room for


def summarise(
    progress: TrainingProgress,
    version: PolicyVersion,
    report: GateReport,
    *,
    judgements: int,
    notes: Sequence[str],
    serves: bool,
    tried: bool,
    held: str | None = None,
    seconds: float,
) -> Tick:
    """The tick of a finished update; `serves`: the version is the champion now; `tried`: the challenger. `notes`: what
    could not be used of the tasks; `held`: why it was not promoted though it passed."""
    if not report.passed:
        outcome = "which the gate refused"
    elif held is not None:
        outcome = "which is held back"
    elif serves:
        outcome = "which now serves"
    elif tried:
        outcome = "which a share of users meets first"
    else:
        outcome = "which waits for someone to promote it"
    return Tick(
        id=progress.update,
        kind="update",
        policy=progress.policy,
        did=(
            f"learnt from {_counted(judgements, 'new judgement')} in {_counted(progress.step, 'step')}"
            f" and registered {version.ref}, {outcome}" + told(notes)
        ),
        why_not=held if report.passed else f"gate: {report.why_not}",
        counts={
            "version": version.version,
            "parent": progress.parent,
            "judgements": judgements,
            "steps": progress.step,
            "train_seconds": progress.seconds,
            "gate_seconds": report.seconds,
            "gate_passed": report.passed,
            "held": held is not None,
            "gate_skill": round(report.skill, 4),
            "gate_base_skill": round(report.base_skill, 4),
            "tasks": report.tasks,
            **{name: round(value, 4) for name, value in progress.figures.items()},
        },
        seconds=round(seconds, 3),
    )


def told(notes: Sequence[str]) -> str:
    """The notes on tasks as the end of a sentence; after a few it says how many more there are."""
    if not notes:
        return ""
    more = f"; and {len(notes) - NOTES} more" if len(notes) > NOTES else ""
    return f" (tasks: {'; '.join(notes[:NOTES])}{more})"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
