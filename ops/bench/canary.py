"""Does the canary tell good from bad? `python -m burnish.ops.bench.canary`.

A/A        a thousand canaries in which both arms are one version, looked at after every vote
A/B        a true .60 -> .65: how often it is found, and with how many votes by those of a test of fixed size
harm       larger losses, and what they cost
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any

import typer
from burnish.learner.canary.settings import CanarySettings
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.simulated_canaries import Outcome, Rates, run_canary

BASE, BETTER = 0.60, 0.65
FIXED_ALPHA, FIXED_POWER = 0.05, 0.8  # of the fixed test, one-sided
TIMES = 1.3  # of its votes
AT_ONCE = CanarySettings(shares=(0.5,))


def fixed_votes(low: float, high: float) -> int:
    """Votes of both arms that a one-sided test of two proportions takes, corrected for continuity (Fleiss, Levin and
    Paik, "Statistical Methods for Rates and Proportions", 2003, 4.2)."""
    z, gap, mean = NormalDist().inv_cdf, high - low, (low + high) / 2
    alike, apart = 2 * mean * (1 - mean), low * (1 - low) + high * (1 - high)
    root = z(1 - FIXED_ALPHA) * alike**0.5 + z(FIXED_POWER) * apart**0.5
    each = (root / gap) ** 2
    return 2 * round(each / 4 * (1 + (1 + 4 / (each * gap)) ** 0.5) ** 2)


def repeat(settings: CanarySettings, rates: Rates, count: int, seed: int) -> list[Outcome]:
    return [run_canary(settings, rates, seed + number) for number in range(count)]


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    actions = Counter(outcome.action for outcome in outcomes)
    votes = sorted(outcome.votes for outcome in outcomes)
    return {
        "canaries": len(outcomes),
        "promoted": actions["promote"],
        "withdrawn": actions["withdraw"],
        "undecided": actions["end"],
        "median_votes_of_both_arms": statistics.median(votes),
        "most_votes_of_both_arms": votes[-1],
        "median_votes_cast": statistics.median(outcome.cast for outcome in outcomes),
        "median_share_at_the_end": statistics.median(outcome.share for outcome in outcomes),
    }


def simulate(canaries: int, seed: int) -> tuple[dict[str, Any], list[MustShow]]:
    """The arithmetic alone: how often it is wrong, and what it costs."""
    default, few = CanarySettings(), max(1, canaries // 5)
    alike = summary(repeat(default, Rates(BASE, BASE), canaries, seed))
    fixed = fixed_votes(BASE, BETTER)
    better = repeat(AT_ONCE, Rates(BASE, BETTER), canaries, seed + 10**6)
    in_time = [o for o in better if o.action == "promote" and o.votes <= TIMES * fixed]
    found = len(in_time) / canaries
    figures = {
        "a_a": alike,
        "a_a_half_of_the_users_at_once": summary(repeat(AT_ONCE, Rates(BASE, BASE), few, seed)),
        "fixed_test": {"votes": fixed, "alpha": FIXED_ALPHA, "power": FIXED_POWER},
        "a_b": {
            **summary(better),
            "found_in_time": len(in_time),
            "median_votes_by_the_fixed_tests": statistics.median(o.votes for o in in_time) / fixed,
        },
        "a_b_with_the_ramp": summary(repeat(default, Rates(BASE, BETTER), few, seed)),
        "ten_points_better": summary(repeat(default, Rates(BASE, BASE + 0.1), few, seed)),
        "ten_points_worse": summary(repeat(default, Rates(BASE, BASE - 0.1), few, seed)),
        "half_as_liked": summary(repeat(default, Rates(BASE, BASE / 2), few, seed)),
    }
    wrong = (alike["promoted"] + alike["withdrawn"]) / canaries
    return figures, [
        MustShow(
            f"{canaries} A/A canaries watched after every vote: promoted or withdrawn",
            round(wrong, 4),
            "<= 0.05",
            wrong <= 0.05,
        ),
        MustShow(
            f".60 -> .65 found with at most {TIMES} times the {fixed} votes of a fixed test",
            round(found, 4),
            ">= 0.80",
            found >= 0.8,
        ),
    ]


def main(
    canaries: Annotated[int, typer.Option(help="Simulated canaries of a kind.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the simulated users.")] = 0,
    out: Annotated[Path, typer.Option(help="canary.json goes here.")] = FOLDER,
) -> None:
    """Measure how often a canary is wrong, and what it costs to be right."""
    simulated, must_show = simulate(canaries, seed)
    for name, figures in simulated.items():
        print_figures(name.replace("_", " "), figures)
    print(write_results("canary", {"simulated": simulated}, out, must_show=must_show))
    raise typer.Exit(0 if all(shown.met for shown in must_show) else 1)


if __name__ == "__main__":
    typer.run(main)
