"""`burnish status`: processes, versions, and the learner's latest ticks or why nothing trained.

Processes are read from the data folder's run.json and the rest over HTTP, so that it works on a
remote service too. With `--watch` it is drawn again every few seconds, and goes on where a service that
was away comes back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from burnish.ops.commands.client import ServiceClient, ServiceDown
from burnish.ops.commands.output import DONE, NO_SERVICE, print_json
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import run_state
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text


def run(settings: UpSettings, *, console: Console, ticks: int = 10, as_json: bool = False) -> int:
    """Show it once; the exit code."""
    told = read(settings, ticks)
    if as_json:
        print_json(told)
    else:
        console.print(shown(told, ticks), highlight=False)
    return NO_SERVICE if told["problem"] else DONE


def watch(
    settings: UpSettings,
    *,
    console: Console,
    ticks: int,
    every_s: float,
    as_json: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show it again and again, until Ctrl-C. `as_json`: a line each time."""
    if as_json:
        while True:
            print_json(read(settings, ticks), line=True)
            sleep(every_s)
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            told = read(settings, ticks)
            at = Text(f"as of {clock_time(time.time())}, every {every_s:g} s; Ctrl-C ends", "dim")
            live.update(Group(shown(told, ticks), at), refresh=True)
            sleep(every_s)


def read(settings: UpSettings, ticks: int) -> dict[str, Any]:
    """All that is known: `processes` of this folder, and what the service tells, unless `problem`."""
    running = run_state.running(settings.data_dir)
    told: dict[str, Any] = {"url": None, "started_at": None, "processes": [], "problem": None}
    if running:
        told |= {"url": running.url, "started_at": running.started_at}
        told["processes"] = processes(running)
    try:
        service = ServiceClient(settings)
        told["url"] = service.url
        told["learner"] = service.get("/v1/learner", limit=ticks)
        told["policies"] = service.get("/v1/policies")
        told["ready"] = service.get("/readyz", accept=(503,))
        told["version"] = service.get("/version")
    except ServiceDown as error:
        told["problem"] = str(error)
    return told


def shown(told: Mapping[str, Any], ticks: int) -> RenderableType:
    parts: list[RenderableType] = []
    if told["processes"]:
        parts.append(Text(f"{told['url']}  up since {clock_time(told['started_at'])}"))
        parts.append(process_table(told["processes"]))
    if told["problem"]:
        return Group(*parts, Text(told["problem"], "red"))
    ready, version = told["ready"], told["version"]
    # Details are for admins.
    parts += [Text(problem, "yellow") for problem in ready.get("problems", ())]
    if ready.get("unrecorded"):
        parts.append(Text(f"{ready['unrecorded']} answers since its start were not recorded"))
    if not version.get("lossless", True):
        parts.append(
            Text(
                f"served with weights in {version['weights']} and a cache in {version['kv_cache']};"
                " the learner samples, trains and gates without rounding"
            )
        )
    parts.append(versions(told["policies"]))
    for policy in told["policies"]["data"]:
        if reward := policy.get("reward"):
            parts.append(
                Text(
                    f"{policy['name']}: answers are chosen by {reward['votes']} judged ones, as of"
                    f" {reward['age_seconds']:.0f} s ago, where best_of asks for it"
                )
            )
    parts.append(learner_ticks(told["learner"], ticks))
    return Group(*parts)


def processes(running: run_state.RunState) -> list[dict[str, Any]]:
    """Each process: its name, pid, whether it lives, and its memory in bytes, where that is known."""
    return [
        {
            "name": name,
            "pid": pid,
            "alive": run_state.pid_alive(pid),
            "memory_bytes": resident_memory(pid),
        }
        for name, pid in {"burnish up": running.pid, **running.children}.items()
    ]


def process_table(listed: list[dict[str, Any]]) -> Table:
    table = Table("process", "pid", "memory", box=None)
    for one in listed:
        memory = one["memory_bytes"]
        held = "" if memory is None else f"{memory / 1e6:.0f} MB"
        table.add_row(one["name"], str(one["pid"]), held if one["alive"] else "[red]gone[/red]")
    return table


def resident_memory(pid: int) -> int | None:
    """Resident set size in bytes; None where there is no /proc."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * 4096


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
