"""Report of the memory benchmark: tables for the terminal and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.ops.bench.lib.memory_goals import peer_scores
from burnish.ops.bench.lib.results import MustShow
from rich.console import Console
from rich.table import Table


def print_tables(
    figures: dict[str, Any], goals: Sequence[MustShow], shares: Sequence[float]
) -> None:
    """Print scores by share of tokens kept, and the goals."""
    out = Console(width=120)
    table = Table("policy", *(f"{share:.0%}" for share in shares), title="score kept by tokens")
    for name, points in figures["score"].items():
        table.add_row(name, *(f"{point['score']:.3f}" for point in points))
    for name, score in peer_scores(figures).items():
        table.add_row(name, *(f"{score[f'{share:g}']:.3f}" for share in shares))
    for name in ("mem0", "langmem"):
        why = figures.get("peers", {}).get("failed") or figures.get("peers", {}).get(name, {}).get(
            "failed"
        )
        if why:
            table.add_row(name, f"not measured: {why}")
    out.print(table)
    table = Table("what", "measured", "goal", "", title="promises")
    for goal in goals:
        table.add_row(goal.line, f"{goal.value:g}", goal.goal, "kept" if goal.met else "NOT KEPT")
    out.print(table)


def plot(figures: dict[str, Any], path: Path) -> Path:
    """Write the plot of score kept against tokens kept; returns its path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for name, points in figures["score"].items():
        width = 2.5 if name == "learned" else 1.2
        shares = [100 * p["share"] for p in points]
        axes.plot(shares, [p["score"] for p in points], "o-", label=name, lw=width, ms=3)
    for name, score in peer_scores(figures).items():
        axes.plot([100 * float(s) for s in score], [*score.values()], "s--", label=name, lw=1, ms=3)
    axes.axhline(0.98, color="grey", lw=0.8, ls=":")
    axes.set(
        xscale="log",
        xlabel="tokens kept, % of the log",
        ylabel="score kept",
        title="Held-out worlds: score kept against tokens kept",
    )
    axes.set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
