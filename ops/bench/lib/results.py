"""Benchmark results: one JSON file per benchmark, with machine and versions; a table to print."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from burnish.ops.machine import describe_machine
from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parents[1] / "results"


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
    content = {"machine": describe_machine(), **figures}
    if must_show:
        content["must_show"] = [asdict(shown) for shown in must_show]
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def print_figures(title: str, figures: Mapping[str, Any]) -> None:
    """Print the scalar figures as a table; nested ones are only in the JSON."""
    table = Table(title=title, show_header=False)
    for name, value in figures.items():
        if not isinstance(value, Mapping | list):
            table.add_row(name.replace("_", " "), _text(value))
    Console().print(table)


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
