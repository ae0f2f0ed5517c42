"""Registering and promoting what an update trained. Both can be repeated after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from burnish.learner.gate.report import GateReport
from burnish.learner.settings import LearnerSettings
from burnish.learner.training.checkpoint import Checkpoint
from burnish.learner.update.attempts import Attempt, Attempts
from burnish.serving.registry import PolicyRegistry, PolicyVersion

CLOCK_SKEW = 60.0  # seconds by which registry and learner may disagree


def register(
    registry: PolicyRegistry,
    attempts: Attempts,
    attempt: Attempt,
    trained: Checkpoint,
    report: GateReport,
    events: Sequence[str],
    rule: str,
) -> PolicyVersion:
    """Put the version into the registry, once, and its lineage into the database."""
    version = find_registered(registry, attempt)
    if version is None:
        attempts.check_lease()
        progress = trained.progress
        version = registry.register(
            attempt.policy,
            trained.adapter_folder,
            parent=attempt.parent,
            lineage={
                "update": attempt.id,
                "rule": rule,
                "code": progress.code,
                "steps": progress.step,
                "seconds": progress.seconds,
                "feedback_until": attempt.started_at,
                "feedback_ids": list(events),
            },
            gate_report=report.model_dump(mode="json"),
            metrics={
                **progress.figures,
                "gate_skill": report.skill,
                "gate_base_skill": report.base_skill,
            },
        )
    attempts.mark_registered(attempt, version.version, events)
    return version


def find_registered(registry: PolicyRegistry, attempt: Attempt) -> PolicyVersion | None:
    """The attempt's version, if it has one; also if a crash came between registry and database."""
    if attempt.version is not None:
        return registry.get(attempt.policy, attempt.version)
    for known in reversed(registry.versions(attempt.policy)):
        if known.created_at < attempt.started_at - CLOCK_SKEW:
            return None
        version = registry.get(attempt.policy, known.version)
        if version.lineage.get("update") == attempt.id:
            return version
    return None


def promote(
    registry: PolicyRegistry,
    attempts: Attempts,
    attempt: Attempt,
    version: PolicyVersion,
    alias: Literal["champion", "challenger", "nothing"],
) -> None:
    """Move `alias` to a version that passed the gate."""
    if alias == "nothing":
        return
    attempts.check_lease()
    if alias == "challenger":
        registry.set_alias(attempt.policy, "challenger", version.version)
    elif registry.champion_version(attempt.policy) == attempt.parent:
        # If somebody moved the alias during the training, their choice stands.
        registry.promote(attempt.policy, version.version, why="it passed the gate")


def being_tried(registry: PolicyRegistry, policy: str, settings: LearnerSettings) -> str | None:
    """Why no new version is begun, while a canary decides about the last one: its outcome is what to learn on,
    and another challenger would end it. The judgements count with the next."""
    if settings.promotes_to != "challenger":
        return None
    version = registry.challenger_version(policy)
    if version is None or version == registry.champion_version(policy):
        return None
    return f"{policy}@{version} is tried on a share of users first (`burnish canary show`)"
