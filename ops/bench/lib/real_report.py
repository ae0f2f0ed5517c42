"""Report of the benchmark on a real model: its goals, tables for the terminal and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.ops.bench.lib.results import MustShow, print_goals
from rich.console import Console
from rich.table import Table

WAY, AT_VOTES = 0.5, 1000
SKILL_LOST = 0.01
HOURS = 2.0


def check_goals(figures: dict[str, Any]) -> list[MustShow]:
    """What the benchmark promises; None where a run was too short to say, none without an update."""
    if not figures.get("updates"):
        return []
    last = figures["updates"][-1]
    way = last["way"] if last["votes"] >= AT_VOTES else None
    others = [peer["way"] for peer in figures.get("baselines", {}).values()]
    ahead = last["way"] - max(others) if others else None
    skill = last.get("skill")
    change = skill["version"] - skill["base"] if skill else None
    hours = figures["seconds"] / 3600
    return [
        MustShow(
            f"way from base to best of 16, {last['votes']} votes",
            last["way"],
            f">= {WAY:g} at {AT_VOTES:,} votes",
            way is not None and way >= WAY,
        ),
        MustShow(
            "way ahead of the better of tuned KTO and DPO",
            ahead,
            "> 0",
            ahead is not None and ahead > 0,
        ),
        MustShow(
            "skill on the built-in pack, against the base",
            change,
            f">= -{SKILL_LOST:g}",
            change is not None and change >= -SKILL_LOST,
        ),
        MustShow("hours", hours, f"<= {HOURS:g}", hours <= HOURS),
    ]


def print_tables(figures: dict[str, Any], goals: Sequence[MustShow]) -> None:
    """Print what each update came to, and the goals."""
    out = Console(width=150)
    base = figures["base"]
    title = (
        f"base {base['liked']:.3f}, best of 16 {base['best_of_16_liked']:.3f},"
        f" {base['tokens']:.0f} tokens an answer"
    )
    table = Table(
        "votes", "steps", "liked", "way", "95 %", "best of n", "base, best of 16", "skill", "KL",
        "tokens", "AUROC",
        title=title,
    )  # fmt: skip
    for row in figures["updates"]:
        low, high = row["way_interval"]
        best = "" if row["best_way"] is None else f"{row['best_way']:+.0%} of {row['samples']}"
        table.add_row(
            str(row["votes"]),
            str(row["steps"]),
            f"{row['liked']:.3f}",
            f"{row['way']:+.0%}",
            f"{low:+.0%} to {high:+.0%}",
            best,
            "" if row["reward_way"] is None else f"{row['reward_way']:+.0%}",
            _skill(row),
            f"{row['kl']:.3f}",
            f"{row['tokens']:.0f}",
            f"{row['training'].get('reward_auroc', float('nan')):.2f}",
        )
    for name, row in figures.get("baselines", {}).items():
        table.add_row(
            name.upper(), "", f"{row['liked']:.3f}", f"{row['way']:+.0%}", "", "", "",
            _skill(row), f"{row['kl']:.3f}", f"{row['tokens']:.0f}", "",
        )  # fmt: skip
    out.print(table)
    print_goals(out, goals)


def plot(figures: dict[str, Any], path: Path) -> Path:
    """Write the plot of the way gone against votes; returns its path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = figures["updates"]
    votes = [0, *(row["votes"] for row in rows)]
    figure, way = plt.subplots(figsize=(7, 4.5))
    way.plot(votes, [0, *(100 * row["way"] for row in rows)], "o-", label="one answer")
    low = [0, *(100 * row["way_interval"][0] for row in rows)]
    high = [0, *(100 * row["way_interval"][1] for row in rows)]
    way.fill_between(votes, low, high, alpha=0.2)
    picked = [(row["votes"], 100 * row["best_way"]) for row in rows if row["best_way"] is not None]
    if picked:
        label = f"best of {rows[-1]['samples']} by the reward model"
        way.plot(*zip(*picked, strict=True), "s--", label=label)
    for name, row in figures.get("baselines", {}).items():
        way.axhline(100 * row["way"], lw=1, ls=":", label=name, color="grey")
    way.set(xlabel="votes", ylabel="% of the way from base to best of 16", title="Held-out prompts")
    way.legend(fontsize=8)
    way.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _skill(row: dict[str, Any]) -> str:
    found = row.get("skill")
    return f"{found['version']:.3f} / {found['base']:.3f}" if found else ""
