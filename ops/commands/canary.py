"""`burnish canary`: how a challenger does on its share of users, and a hand on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from burnish.ops import settings as config
from burnish.ops.commands.client import ServiceClient
from burnish.ops.commands.output import AsJson, DataDir, Policy, Url, Why, print_json
from burnish.ops.commands.versions import parse
from rich.console import Console
from rich.markup import escape
from rich.table import Table

console = Console()
app = typer.Typer(help="A new version on a share of users: how it does, and a hand on it.")


_METRICS = {
    "thumbs": "thumbs up",
    "signal": "good signals",
    "seconds": "seconds an answer",
    "tokens": "tokens an answer",
}


@app.command()
def show(
    policy: Policy = "default", as_json: AsJson = False, data_dir: DataDir = None, url: Url = None
) -> None:
    """What the two arms have shown, and what is waited for."""
    service = ServiceClient(config.load({"data_dir": data_dir, "url": url}))
    _tell(service.get(f"/v1/policies/{policy}/canary"), as_json)


@app.command()
def begin(
    version: Annotated[str, typer.Argument(help="A version: 12 or default@12.")],
    share: Annotated[
        float | None, typer.Option(help="Of users, above 0 and up to 0.5 (0.05).")
    ] = None,
    policy: Policy = "default",
    why: Why = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Try a version on a share of users, in place of the challenger."""
    policy, number = parse(version, policy)
    told = {"version": number} | ({} if share is None else {"share": share})
    _change("begin", policy, why, as_json, data_dir, url, **told)


@app.command()
def ramp(
    share: Annotated[float, typer.Argument(help="Of users, above 0 and up to 0.5.")],
    policy: Policy = "default",
    why: Why = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Give the challenger another share of users."""
    _change("ramp", policy, why, as_json, data_dir, url, share=share)


@app.command()
def pause(
    policy: Policy = "default",
    why: Why = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Neither ramp nor promote it, until resumed; what harms is withdrawn all the same."""
    _change("pause", policy, why, as_json, data_dir, url)


@app.command()
def resume(
    policy: Policy = "default",
    why: Why = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Let it go on by itself."""
    _change("resume", policy, why, as_json, data_dir, url)


@app.command()
def withdraw(
    policy: Policy = "default",
    why: Why = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Have the champion answer everybody again."""
    _change("withdraw", policy, why, as_json, data_dir, url)


def _change(
    action: str,
    policy: str,
    why: str,
    as_json: bool,
    data_dir: Path | None,
    url: str | None,
    **fields: Any,
) -> None:
    service = ServiceClient(config.load({"data_dir": data_dir, "url": url}))
    body = {"action": action, **fields} | ({"why": why} if why else {})
    _tell(service.post(f"/v1/policies/{policy}/canary", body), as_json)


def _tell(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(told)
    else:
        tell(told, console)


def tell(told: dict[str, Any], console: Console) -> None:
    """What the API says of a canary."""
    if running := told["running"]:
        ref = f"{told['policy']}@{running['version']}"
        paused = f", paused by {running['paused_by']}" if running["paused_by"] else ""
        console.print(
            escape(f"{ref} answers {running['share']:.0%} of users{paused}"), highlight=False
        )
    console.print(escape(told["says"]), highlight=False, soft_wrap=True)
    last = told["last"] or {}
    figures = last.get("figures") or {}
    if "thumbs" not in figures:
        return
    table = Table(
        "",
        f"{last['policy']}@{last['version']}",
        "users",
        f"{last['policy']}@{last['champion']}",
        "users",
        box=None,
    )
    for metric, name in _METRICS.items():
        of = figures[metric]
        cells = [
            text
            for arm in ("challenger", "champion")
            for text in (_mean(of[arm]["mean"]), str(of[arm]["users"]))
        ]
        table.add_row(name, *cells)
    failed = figures["failed_users"]
    table.add_row("had a request fail", "", str(failed["challenger"]), "", str(failed["champion"]))
    console.print(table)
    change = figures["change"]
    console.print(
        f"{figures['compared']} of up to {figures['of']} pairs of voters: thumbs changed by"
        f" {change['lower']:+.3f} to {change['upper']:+.3f}",
        highlight=False,
    )


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
