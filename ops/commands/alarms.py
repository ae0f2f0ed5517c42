"""`burnish alarms`: which are open, what was measured, and a while in which one holds nothing back."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from burnish.ops import settings as config
from burnish.ops.commands.client import ServiceClient
from burnish.ops.commands.output import AsJson, DataDir, Policy, Url, Why, print_json
from rich.console import Console
from rich.markup import escape
from rich.table import Table

app = typer.Typer(help="What keeps the champion where it is.")
console = Console()


@app.callback(invoke_without_command=True)
def alarms(
    context: typer.Context,
    policy: Policy = "default",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Which alarms are open, and what each of them measures; exit code 1 where one holds promotion back."""
    if context.invoked_subcommand is not None:
        return
    service = ServiceClient(config.load({"data_dir": data_dir, "url": url}))
    told = service.get("/v1/learner/alarms", policy=policy)
    if as_json:
        print_json(told)
    else:
        show(told, console)
    raise typer.Exit(1 if told.get("holds") else 0)


@app.command()
def silence(
    alarm: Annotated[str, typer.Argument(help="Its id, as `burnish alarms` tells.")],
    hours: Annotated[float, typer.Option(help="For so long.")] = 24.0,
    why: Why = "",
    policy: Policy = "default",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Let an open alarm hold nothing back for a while."""
    service = ServiceClient(config.load({"data_dir": data_dir, "url": url}))
    body = {"policy": policy, "hours": hours} | ({"why": why} if why else {})
    told = service.post(f"/v1/learner/alarms/{alarm}/silence", body)
    if as_json:
        print_json(told)
        return
    console.print(
        f"{alarm} holds nothing back until {_at(told['silenced_until'])}", highlight=False
    )


def show(told: dict[str, Any], to: Console) -> None:
    if not told["available"]:
        to.print(escape(told["why"]), highlight=False)
        return
    if not told["open"]:
        to.print("[green]no alarm is open[/green]")
    for alarm in told["open"]:
        state = "silenced" if alarm["silenced"] else "open"
        until = f" until {_at(alarm['silenced_until'])}" if alarm["silenced"] else ""
        to.print(
            f"[red]{state}[/red]{until} since {_at(alarm['opened_at'])}: {escape(alarm['name'])} of version"
            f" {alarm['version']}: {escape(alarm['says'])} ({alarm['id']})",
            highlight=False,
            soft_wrap=True,
        )
    table = Table(box=None, show_header=False, padding=(0, 1))
    for reading in sorted(told["readings"], key=lambda r: (r["state"] != "open", r["name"])):
        table.add_row(reading["state"], escape(reading["name"]), escape(reading["says"]))
    to.print(table)
    for alarm in told["closed"]:
        to.print(
            f"closed {_at(alarm['closed_at'])}: {escape(alarm['name'])} of version {alarm['version']}:"
            f" {escape(alarm['closed_because'] or '')}",
            highlight=False,
            soft_wrap=True,
        )


def _at(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
