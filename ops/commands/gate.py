"""`burnish gate`: what the gate said of a version, in words, the decisive part first."""

from __future__ import annotations

from typing import Any

from burnish.ops.commands.client import ServiceClient
from burnish.ops.commands.output import print_json
from burnish.ops.commands.versions import parse
from burnish.ops.settings import UpSettings
from rich.console import Console
from rich.markup import escape
from rich.table import Table

SHOWN = 5  # families that changed most


def run(
    settings: UpSettings,
    version: str | None,
    policy: str,
    console: Console,
    *,
    as_json: bool = False,
) -> int:
    """Print the report; 1 where the version did not pass, or has none."""
    service = ServiceClient(settings)
    if version is None:
        known = service.get(f"/v1/policies/{policy}")["versions"]
        number = max(one["version"] for one in known)
    else:
        policy, number = parse(version, policy)
    told = service.get(f"/v1/policies/{policy}/versions/{number}")
    report = told["gate_report"]
    if as_json:
        print_json({"ref": told["ref"], "gate_report": report})
        return 0 if report and report["passed"] else 1
    if report is None:
        console.print(
            f"{told['ref']} was never at the gate: it is the base, or somebody brought it",
            highlight=False,
        )
        return 1
    show(told["ref"], report, console)
    return 0 if report["passed"] else 1


def show(ref: str, report: dict[str, Any], console: Console) -> None:
    """A report as stored with a version; one of an older release lacks some figures."""
    verdict = "[green]passed[/green]" if report["passed"] else "[red]did not pass[/red]"
    asked = sum(report.get("asked", {}).values()) or report["tasks"]
    console.print(
        f"{escape(ref)} {verdict} the gate: {asked} questions, {report['seconds']:.0f} s",
        highlight=False,
    )
    table = Table(box=None, show_header=False, padding=(0, 1))
    for check in sorted(report["checks"], key=_rank):
        table.add_row(_mark(check), escape(check["name"]), escape(check["says"]))
    console.print(table)
    moved = sorted(report["families"].items(), key=lambda item: item[1][1] - item[1][0])
    if moved:
        families = Table("family", "base", "candidate", box=None)
        for name, (base, candidate) in moved[:SHOWN]:
            families.add_row(escape(name), f"{base:.2f}", f"{candidate:.2f}")
        console.print(families)
    for note in report.get("notes", ()):
        console.print(escape(note), highlight=False, soft_wrap=True)


def _rank(check: dict[str, Any]) -> int:
    """What was lost, then what is undecided, then the rest."""
    return 2 if check["passed"] else 1 if check.get("undecided") else 0


def _mark(check: dict[str, Any]) -> str:
    return ("[red]lost[/red]", "[yellow]open[/yellow]", "[green]kept[/green]")[_rank(check)]
