"""What a start writes into the audit log: its settings, where they are others than at the last start."""

from __future__ import annotations

from collections.abc import Mapping

from burnish.feedback.audit import AuditLog
from burnish.feedback.masking import masked
from burnish.ops.settings import PREFIX

STARTED = "settings"
_SECRET = ("SECRET", "KEY", "PASSWORD", "RETIRED")


def note_settings(log: AuditLog, environment: Mapping[str, str], who: str) -> None:
    """Note the settings of a start where they are others than at the last one; secrets only as present."""
    now = {
        name: "***" if name.endswith(_SECRET) else masked(value)
        for name, value in sorted(environment.items())
        if name.startswith(PREFIX)
    }
    started = [entry for entry in log.entries() if entry.what == STARTED]
    before = dict(started[-1].details) if started else None
    if now != before:
        changed = sorted(
            name
            for name in now.keys() | (before or {}).keys()
            if (before or {}).get(name) != now.get(name)
        )
        log.append(who, STARTED, ", ".join(changed), details=now)
