"""`burnish status`: processes, versions, and what the learner did last or why nothing trained.

Processes come from the data folder's run.json, the rest over HTTP, so it works on a remote
service too. Exit code 1 when nothing answers.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from burnish.ops.commands.client import Service, ServiceDown
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import runfile
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def run(settings: UpSettings, *, console: Console, ticks: int = 10) -> int:
    running = runfile.running(settings.data_dir)
    if running:
        since = clock(running.started_at)
        console.print(f"{running.url}  up since {since}", highlight=False)
        console.print(processes(running))
    try:
        service = Service(settings)
        learner = service.get("/v1/learner", limit=ticks)
        policies = service.get("/v1/policies")
    except ServiceDown as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 1
    console.print(versions(policies))
    console.print(learning(learner, ticks))
    return 0


def processes(running: runfile.RunFile) -> Table:
    table = Table("process", "pid", "memory", box=None)
    for name, pid in {"burnish up": running.pid, **running.children}.items():
        alive = runfile.pid_alive(pid)
        table.add_row(name, str(pid), memory(pid) if alive else "[red]gone[/red]")
    return table


def memory(pid: int) -> str:
    """Resident memory, where /proc exists."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return ""
    return f"{pages * 4096 / 1e6:.0f} MB"


def versions(policies: Any) -> Table:
    """One row per policy: who answers now, who would after a rollback."""
    table = Table("policy", "champion", "previous", "swaps", "", box=None)
    for policy in policies["data"]:
        numbers = (policy[key] for key in ("champion", "previous", "swaps"))
        problem = f"[red]{escape(policy['problem'])}[/red]" if policy["problem"] else ""
        table.add_row(policy["name"], *("" if n is None else str(n) for n in numbers), problem)
    return table


def learning(learner: Any, count: int) -> Table:
    table = Table("when", "tick", "took", "what it did, or why nothing trained", box=None)
    for tick in learner["ticks"][:count]:
        words = tick["did"] + (f": {tick['why_not']}" if tick.get("why_not") else "")
        table.add_row(clock(tick["at"]), tick["kind"], f"{tick['seconds']:.1f} s", escape(words))
    if learner.get("why"):
        table.add_row("", "", "", escape(learner["why"]))
    return table


def clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
