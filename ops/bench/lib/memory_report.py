"""Report of the memory benchmark: tables for the terminal and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.ops.bench.lib.memory_goals import peer_scores
from burnish.ops.bench.lib.memory_talk import SHARES as TALK_SHARES
from burnish.ops.bench.lib.memory_talk import with_peer
from burnish.ops.bench.lib.results import MustShow, print_goals
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
    for kind, found in figures["talk"].items():
        title = f"evidence kept, {kind}, {found['questions']} questions: mean / all"
        table = Table("policy", *(f"{share:.0%}" for share in TALK_SHARES), title=title)
        for name, kept in with_peer(figures, kind).items():
            table.add_row(name, *(f"{k['mean']:.3f} / {k['all']:.3f}" for k in kept.values()))
        out.print(table)
    print_goals(out, goals)


def plot(figures: dict[str, Any], path: Path) -> Path:
    """Write the plot of score kept against tokens kept; returns its path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (axes, *talks) = plt.subplots(1, 1 + len(figures["talk"]), figsize=(15, 4.5))
    for name, points in figures["score"].items():
        width = 2.5 if name == "learned" else 1.2
        shares = [100 * p["share"] for p in points]
        axes.plot(shares, [p["score"] for p in points], "o-", label=name, lw=width, ms=3)
    for name, score in peer_scores(figures).items():
        axes.plot([100 * float(s) for s in score], [*score.values()], "s--", label=name, lw=1, ms=3)
    axes.axhline(0.98, color="grey", lw=0.8, ls=":")
    axes.set(ylabel="score kept", title="Held-out worlds: score kept")
    for beside, kind in zip(talks, figures["talk"], strict=True):
        for name, kept in with_peer(figures, kind).items():
            width = 2.5 if name == "learned" else 1.2
            means = [at["mean"] for at in kept.values()]
            beside.plot([100 * float(s) for s in kept], means, "o-", label=name, lw=width, ms=3)
        beside.set(ylim=(0, 1.02), title=f"Held-out {kind}: evidence kept")
    for each in (axes, *talks):
        each.set(xscale="log", xlabel="tokens kept, % of the log")
        each.set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
        each.minorticks_off()
        each.legend(fontsize=8)
        each.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
