"""`burnish status`: processes, versions, and the learner's latest ticks or why nothing trained.

Processes are read from the data folder's run.json and the rest over HTTP, so that it works on a
remote service too. Exit code 1 when no service answers.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from burnish.ops.commands.client import ServiceClient, ServiceDown
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import run_state
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def run(settings: UpSettings, *, console: Console, ticks: int = 10) -> int:
    running = run_state.running(settings.data_dir)
    if running:
        since = clock_time(running.started_at)
        console.print(f"{running.url}  up since {since}", highlight=False)
        console.print(processes(running))
    try:
        service = ServiceClient(settings)
        learner = service.get("/v1/learner", limit=ticks)
        policies = service.get("/v1/policies")
        ready = service.get("/readyz", accept=(503,))
        told = service.get("/version")
    except ServiceDown as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 1
    for problem in ready.get("problems", ()):  # details are for admins
        console.print(problem, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if ready.get("unrecorded"):
        console.print(f"{ready['unrecorded']} answers since its start were not recorded")
    if not told.get("lossless", True):
        console.print(
            f"served with weights in {told['weights']} and a cache in {told['kv_cache']}; the learner"
            " samples, trains and gates without rounding",
            highlight=False,
            soft_wrap=True,
        )
    console.print(versions(policies))
    for policy in policies["data"]:
        if reward := policy.get("reward"):
            console.print(
                f"{policy['name']}: answers are chosen by {reward['votes']} judged ones, as of"
                f" {reward['age_seconds']:.0f} s ago, where best_of asks for it",
                highlight=False,
                soft_wrap=True,
            )
    console.print(learner_ticks(learner, ticks))
    return 0


def processes(running: run_state.RunState) -> Table:
    table = Table("process", "pid", "memory", box=None)
    for name, pid in {"burnish up": running.pid, **running.children}.items():
        alive = run_state.pid_alive(pid)
        table.add_row(name, str(pid), resident_memory(pid) if alive else "[red]gone[/red]")
    return table


def resident_memory(pid: int) -> str:
    """Resident set size in MB; empty where there is no /proc."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return ""
    return f"{pages * 4096 / 1e6:.0f} MB"


def versions(policies: Any) -> Table:
    """One row per policy: the version that answers, and the one a rollback would restore."""
    table = Table("policy", "champion", "challenger", "previous", "swaps", "", box=None)
    for policy in policies["data"]:
        numbers = (policy[key] for key in ("champion", "challenger", "previous", "swaps"))
        problem = f"[red]{escape(policy['problem'])}[/red]" if policy["problem"] else ""
        table.add_row(policy["name"], *("" if n is None else str(n) for n in numbers), problem)
    return table


def learner_ticks(learner: Any, count: int) -> Table:
    table = Table("when", "tick", "took", "what it did, or why nothing trained", box=None)
    for tick in learner["ticks"][:count]:
        summary = tick["did"] + (f": {tick['why_not']}" if tick.get("why_not") else "")
        table.add_row(
            clock_time(tick["at"]), tick["kind"], f"{tick['seconds']:.1f} s", escape(summary)
        )
    if learner.get("problem"):
        table.add_row("", "", "", f"[red]{escape(learner['problem'])}[/red]")
    if learner.get("unmatched"):
        table.add_row(
            "",
            "",
            "",
            f"{learner['unmatched']} judgements have met no answer and count nothing;"
            " GET /v1/feedback/ID says why",
        )
    if learner.get("why"):
        table.add_row("", "", "", escape(learner["why"]))
    return table


def clock_time(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
