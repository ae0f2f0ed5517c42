"""`burnish audit`: the data folder's audit log, and whether it is whole."""

from __future__ import annotations

import time
from typing import Any

from burnish.feedback.audit import AuditLog
from burnish.ops.commands.client import ServiceError
from rich.console import Console
from rich.table import Table


def listed(log: AuditLog, limit: int) -> list[dict[str, Any]]:
    """The newest entries, oldest first, as they are written."""
    return [{**vars(entry), "details": dict(entry.details)} for entry in log.entries(limit)]


def show(log: AuditLog, limit: int, console: Console) -> None:
    table = Table("n", "at", "who", "what", "about", "why", "", box=None)
    for entry in log.entries(limit):
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
        details = " ".join(f"{name}={value}" for name, value in entry.details.items())
        table.add_row(str(entry.n), at, entry.who, entry.what, entry.about, entry.why, details)
    console.print(table)


def check(log: AuditLog, console: Console) -> None:
    """Raises ServiceError with the place of each line that was removed or changed."""
    problems = log.check()
    if problems:
        raise ServiceError("the audit log is not whole: " + "; ".join(problems))
    entries = log.entries(1)
    console.print(f"the audit log is whole: {entries[-1].n if entries else 0} entries")
