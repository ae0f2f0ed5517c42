"""`burnish verify`: our way of running a model beside transformers' own, and what a format costs.

One line for each comparison as soon as it is made, and a verdict in the last; exit code 1 where a
difference is larger than allowed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from burnish.kernels.formats import Cache, Weights
from burnish.kernels.verify import Comparison, phases, rounding, verify
from burnish.ops.commands.output import print_json
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from transformers.utils import logging


def run(
    console: Console,
    model: Path,
    weights: Weights,
    kv_cache: Cache,
    *,
    rows: int,
    length: int,
    tolerance: float,
    as_json: bool = False,
) -> int:
    """0 where nothing differs by more than is allowed. Raises ModelError."""
    logging.disable_progress_bar()  # of loading; ours tells
    began, found = time.monotonic(), list[Comparison]()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    quiet = as_json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as shown:
        task = shown.add_task("", total=phases(weights, kv_cache))

        def progress(phase: str) -> None:
            shown.update(task, advance=1, description=phase)

        for comparison in verify(
            model,
            weights=weights,
            kv_cache=kv_cache,
            rows=rows,
            length=length,
            tolerance=tolerance,
            progress=progress,
        ):
            found.append(comparison)
            if not as_json:
                console.print(_line(comparison), highlight=False, soft_wrap=True)
    passed = all(one.passed for one in found)
    if as_json:
        compared = [{**vars(one), "passed": one.passed} for one in found]
        print_json({"model": model, "verified": passed, "comparisons": compared})
        return 0 if passed else 1
    verdict = _verdict(
        model, rounding(weights, kv_cache), found, f"{time.monotonic() - began:.0f} s"
    )
    console.print(verdict, highlight=False, soft_wrap=True)
    return 0 if passed else 1


def _line(one: Comparison) -> str:
    result = "ok" if one.passed else "[red]NOT OK[/red]"
    return f"{one.name}: {one.difference:.2g} (at most {one.allowed:g}): {result}"


def _verdict(model: Path, rounded: str, found: Sequence[Comparison], took: str) -> str:
    wrong = [one.name for one in found if not one.passed and not one.cost]
    if wrong:
        return f"[red]NOT verified[/red] in {took}: {model} differs here in {', '.join(wrong)}"
    same = f"in {took}: {model} computes here what transformers does"
    if not all(one.passed for one in found):
        return f"[red]NOT verified[/red] {same}, but {rounded} costs it more than is allowed"
    within = f", and {rounded} costs it no more than is allowed" if found[-1].cost else ""
    return f"[green]verified[/green] {same}{within}"
