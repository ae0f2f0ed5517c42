"""Benchmark results: one JSON file per benchmark, with machine and versions; a table to print."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeGuard

from burnish.ops.machine import describe_machine
from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parents[1] / "results"
# As it is when a benchmark begins: by its end the checkout may be another commit.
MACHINE = describe_machine()


@dataclass(frozen=True)
class MustShow:
    """A figure that whoever tells of the benchmark must show, with its goal in words."""

    line: str
    value: float | None
    goal: str
    met: bool


def write_results(
    name: str,
    figures: Mapping[str, Any],
    folder: Path = FOLDER,
    *,
    must_show: Sequence[MustShow] = (),
) -> Path:
    """Write `folder/name.json`; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    content = {"machine": MACHINE, **figures}
    if must_show:
        content["must_show"] = [asdict(shown) for shown in must_show]
    write_json(path, content)
    return path


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write, whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    unfinished.replace(path)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What keeps figures of two machines (`describe_machine`) out of one file. A dirty checkout counts
    as its commit, since new results make it dirty."""

    def told(machine: Mapping[str, Any], name: str) -> str:
        return str(machine.get(name)).removesuffix("-dirty")

    return [
        f"{name} was {told(before, name)} and is {told(now, name)}"
        for name in ("cpu", "cores", "commit", "packages")
        if told(before, name) != told(now, name)
    ]


def merged(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of an earlier run under those of a later one; one that failed leaves nothing under it."""
    found = dict(before)
    for name, value in now.items():
        old = before.get(name)
        found[name] = merged(old, value) if _succeeded(old) and _succeeded(value) else value
    return found


def _succeeded(figures: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(figures, Mapping) and "error" not in figures


def print_figures(title: str, figures: Mapping[str, Any]) -> None:
    """Print the scalar figures as a table; nested ones are only in the JSON."""
    table = Table(title=title, show_header=False)
    for name, value in figures.items():
        if not isinstance(value, Mapping | list):
            table.add_row(name.replace("_", " "), _text(value))
    Console().print(table)


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def print_goals(out: Console, goals: Sequence[MustShow]) -> None:
    """Print what a benchmark promises, and whether it was kept."""
    table = Table("what", "measured", "goal", "", title="promises")
    for goal in goals:
        value = "not measured" if goal.value is None else f"{goal.value:.4g}"
        table.add_row(goal.line, value, goal.goal, "kept" if goal.met else "NOT KEPT")
    out.print(table)
