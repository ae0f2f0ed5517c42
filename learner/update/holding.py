"""What keeps the champion where it is, whatever the gate says: somebody has paused promotion, or an alarm is open."""

from __future__ import annotations

from burnish.learner.alarms.watching import Watch
from burnish.serving.registry import PolicyRegistry


def why_held(registry: PolicyRegistry, watch: Watch, policy: str) -> str | None:
    """As a sentence; None where a version may be promoted. A person may promote one all the same."""
    paused = registry.paused(policy)
    if paused is not None:
        why = f": {paused.why}" if paused.why else ""
        return f"promotion was paused by {paused.who}{why}"
    alarms = watch.look(policy, watched(registry, policy))
    if not alarms:
        return None
    be = "an alarm is" if len(alarms) == 1 else f"{len(alarms)} alarms are"
    return f"{be} open: {'; '.join(alarm.sentence for alarm in alarms)}"


def watched(registry: PolicyRegistry, policy: str) -> list[int]:
    """The versions that answer people: champion and challenger."""
    named = registry.champion_version(policy), registry.challenger_version(policy)
    return sorted({version for version in named if version is not None})
