"""Report of the benchmark of learning: its goals, tables for the terminal and a plot."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from burnish.ops.bench.lib.results import MustShow, print_goals
from rich.console import Console
from rich.table import Table

WAYS = {1000: 0.5, 3000: 0.85, 6000: 0.93}  # share of the way at so many votes
CANDIDATES = 8  # that serving chooses an answer from, beside the plain exam
BEST_WAYS = {"base": 0.5, "version": 0.6}  # share of the way at 1,000 votes, by the best of them
BESIDE_KTO = 0.25  # of its votes, that lead as far

Runs = Sequence[Mapping[str, Any]]


class People(StrEnum):
    """How simulated people vote."""

    steady = "steady"
    noise = "noise"  # by the toss of a coin
    change = "change"  # half way their tastes become others


def check_goals(people: People, runs: Runs) -> list[MustShow]:
    """What the benchmark promises of these people."""
    if people is People.noise:
        return _of_noise(runs)
    if people is People.change:
        return [_recovered(runs)]
    goals = []
    for votes, goal in WAYS.items():
        ways = [e["way"] for run in runs for e in run["exams"] if votes <= e["votes"] < 1.2 * votes]
        if ways:
            way = statistics.mean(ways)
            line = f"share of the way at {votes:,} votes, style alone"
            goals.append(MustShow(line, way, f">= {goal:g}", way >= goal))
    first = [next((e for e in run["exams"] if e["votes"] >= 1000), {}) for run in runs]
    for name, goal in BEST_WAYS.items():
        ways = [exam[key] for exam in first if (key := f"best_of_{CANDIDATES}_{name}") in exam]
        if ways:
            way = statistics.mean(ways)
            line = f"the same at 1,000 votes by the best of {CANDIDATES} of the {name}'s answers"
            goals.append(MustShow(line, way, f">= {goal:g}", way >= goal))
    if all("kto" in run.get("baselines", {}) for run in runs):
        goals.append(_beside_kto(runs))
    least = min(run["exams"][-1]["least_liked_style"] for run in runs)
    goals.append(MustShow("the liked style in the worst family", least, ">= 0.5", least >= 0.5))
    change = min(run["exams"][-1]["skill"] - run["base_skill"] for run in runs)
    return [*goals, MustShow("skill against the base", change, ">= 0", change >= 0)]


def _of_noise(runs: Runs) -> list[MustShow]:
    kl = max(run["exams"][-1]["kl"] for run in runs)
    lost = max(run["base_skill"] - run["exams"][-1]["skill"] for run in runs)
    return [
        MustShow("KL after votes that are noise", kl, "< 0.01", kl < 0.01),
        MustShow("skill lost to noise", lost, "<= 0.02", lost <= 0.02),
    ]


def _beside_kto(runs: Runs) -> MustShow:
    """The votes that lead as far as KTO came with all of its own, as a share of these; the worst run's."""
    shares = []
    for run in runs:
        theirs = run["baselines"]["kto"]
        there = [exam["votes"] for exam in run["exams"] if exam["way"] >= theirs["way"]]
        shares.append(there[0] / theirs["votes"] if there else None)
    worst = None if None in shares else max(share for share in shares if share is not None)
    met = worst is not None and worst <= BESIDE_KTO
    line = "votes that lead as far as KTO's best, of its own"
    return MustShow(line, worst, f"<= {BESIDE_KTO:g}", met)


def _recovered(runs: Runs) -> MustShow:
    """The votes after the change until the way is as far as before, the slowest run's."""
    needed = []
    for run in runs:
        half = len(run["exams"]) // 2
        before, after = run["exams"][half - 1], run["exams"][half:]
        there = [e["votes"] - before["votes"] for e in after if e["way"] >= before["way"]]
        needed.append(there[0] if there else None)
    slowest = None if None in needed else max(n for n in needed if n is not None)
    met = slowest is not None and slowest <= 1000
    return MustShow("votes to recover after tastes changed", slowest, "<= 1,000", met)


def print_tables(runs: Runs, goals: Sequence[MustShow]) -> None:
    """Print the mean of the runs by votes, each baseline's, and the goals."""
    out = Console(width=130)
    table = Table("votes", "way", "of each seed", *map(_heading, BEST_WAYS), "skill", "KL")
    for exams in zip(*(run["exams"] for run in runs), strict=True):
        best = [
            _share([e.get(f"best_of_{CANDIDATES}_{name}") for e in exams]) for name in BEST_WAYS
        ]
        table.add_row(
            f"{exams[0]['votes']:,}",
            _share([e["way"] for e in exams]),
            ", ".join(f"{e['way']:.0%}" for e in exams),
            *best,
            _share([e["skill"] for e in exams]),
            f"{statistics.mean(e['kl'] for e in exams):.3f}",
        )
    for name in runs[0].get("baselines", {}):
        found = [run["baselines"][name] for run in runs]
        table.add_row(
            f"{found[0]['votes']:,} by {name.upper()}",
            _share([e["way"] for e in found]),
            ", ".join(f"{e['way']:.0%}" for e in found),
            *[""] * len(BEST_WAYS),
            _share([e["skill"] for e in found]),
            "",
        )
    out.print(table)
    print_goals(out, goals)


def plot(people: People, runs: Runs, path: Path) -> Path:
    """Write the plot of the way gone against votes; returns its path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    votes = [0, *(exam["votes"] for exam in runs[0]["exams"])]
    ways = [[0, *(100 * exam["way"] for exam in run["exams"])] for run in runs]
    for run, way in zip(runs, ways, strict=True):
        axes.plot(votes, way, lw=0.8, alpha=0.5, color="tab:blue")
        axes.annotate(f" {run['seed']}", (votes[-1], way[-1]), fontsize=7, color="tab:blue")
    axes.plot(
        votes, list(map(statistics.mean, zip(*ways, strict=True))), "o-", label="mean of seeds"
    )
    if people is People.steady:
        axes.plot(*zip(*((v, 100 * w) for v, w in WAYS.items()), strict=True), "k_", label="goals")
    for name, style in zip(runs[0].get("baselines", {}), (":", "--"), strict=False):
        way = statistics.mean(run["baselines"][name]["way"] for run in runs)
        label = f"TRL's {name.upper()} on {runs[0]['baselines'][name]['votes']:,} votes"
        axes.axhline(100 * way, color="grey", ls=style, lw=1, label=label)
    if people is People.change:
        axes.axvline(votes[-1] / 2, color="grey", lw=0.8, label="tastes change")
    axes.set(xlabel="votes", ylabel="% of the way to the liked style", xlim=(0, 1.05 * votes[-1]))
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _heading(name: str) -> str:
    return f"best of {CANDIDATES} of {name}"


def _share(values: Sequence[float | None]) -> str:
    """Their mean, in percent; nothing where one is missing."""
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.0%}" if len(known) == len(values) else ""
