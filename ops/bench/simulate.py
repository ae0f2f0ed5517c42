"""Learning from feedback, end to end: `python -m burnish.ops.bench.simulate`.

Per seed a fresh service, 15 minutes of simulated users and the paired evaluation: about 20 minutes a
seed.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from burnish.ops.bench.lib.results import FOLDER
from burnish.ops.bench.lib.service import run_service
from burnish.ops.simulate import Options
from burnish.ops.simulate import main as simulate
from rich.console import Console
from rich.table import Table

SHARE_WANTED, SKILL_MARGIN, CADENCE_S = 0.60, 0.01, 60.0


def check_goals(results: dict[str, Any]) -> dict[str, bool]:
    """Each goal of a run, and whether it was met."""
    evaluation, median = results["evaluation"], results["cadence"]["median_seconds"]
    return {
        "no request failed": results["traffic"]["failed"] == 0,
        f"at least {SHARE_WANTED:.0%} of the way": evaluation["share"] >= SHARE_WANTED,
        "skill within a point": evaluation["skill_difference"] >= -SKILL_MARGIN,
        f"median cadence at most {CADENCE_S:.0f} s": median is not None and median <= CADENCE_S,
    }


def main(
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0,1,2",
    minutes: Annotated[float, typer.Option(help="Length of the live phase.")] = 15.0,
    users: Annotated[int, typer.Option(help="End users.")] = 50,
    prompts: Annotated[int, typer.Option(help="Held-out prompts.")] = 1800,
    rate: Annotated[float, typer.Option(help="Chats a second; 0: all it can.")] = 20.0,
    update_every: Annotated[
        float | None, typer.Option(help="Seconds between updates (`up`'s own).")
    ] = None,
    out: Annotated[Path, typer.Option(help="A folder per seed goes here.")] = FOLDER,
) -> None:
    """Let the population loose on a fresh service for each seed; exit code 1 on a broken promise."""
    env = dict(os.environ)
    if update_every is not None:
        env["BURNISH_UPDATE_EVERY"] = str(update_every)
    table = Table("seed", "base", "champion", "oracle", "share", "skill", "cadence", "kept")
    missed = False
    for seed in (int(text) for text in seeds.split(",")):
        folder = out / f"simulate-seed{seed}"
        with (
            tempfile.TemporaryDirectory() as scratch,
            run_service(Path(scratch), env=env) as service,
        ):
            options = Options(url=service.url, minutes=minutes, users=users, prompts=prompts,
                              rate=rate, seed=seed, out=folder)  # fmt: skip
            simulate(options)
        results = json.loads((folder / "results.json").read_text())
        evaluation, kept = results["evaluation"], check_goals(results)
        missed = missed or not all(kept.values())
        cadence = results["cadence"]["median_seconds"]
        table.add_row(
            str(seed),
            *(f"{evaluation[f'expected_{who}']:.3f}" for who in ("base", "champion", "oracle")),
            f"{evaluation['share']:.0%}",
            f"{evaluation['skill_difference']:+.3f}",
            "-" if cadence is None else f"{cadence:.0f} s",
            ", ".join(f"NOT {promise}" for promise, held in kept.items() if not held) or "all",
        )
    Console().print(table)
    raise typer.Exit(1 if missed else 0)


if __name__ == "__main__":
    typer.run(main)
