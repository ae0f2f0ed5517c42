"""Does the canary tell good from bad? `python -m burnish.ops.bench.canary`.

A/A        a thousand canaries in which both arms are one version, looked at after every vote
A/B        a true .60 -> .65: how often it is found, and with how many votes by those of a test of fixed size
harm       larger losses, and what they cost
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any

import typer
from burnish.learner.canary.settings import CanarySettings
from burnish.learner.database import Database
from burnish.ops.bench.lib.harmful_version import (
    evidence_in_at,
    figures_of,
    observed,
    withdraw_under_load,
)
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import run_service
from burnish.ops.bench.lib.simulated_canaries import Outcome, Rates, run_canary
from burnish.ops.bench.swaps import add_versions
from burnish.serving.registry import PolicyRegistry, signing_keys

BASE, BETTER = 0.60, 0.65
FIXED_ALPHA, FIXED_POWER = 0.05, 0.8  # of the fixed test, one-sided
TIMES = 1.3  # of its votes
AT_ONCE = CanarySettings(shares=(0.5,))
NOISE = 0.3  # deviation of the harmful adapter's weights


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


def on_a_service(clients: int, calm_s: float, limit_s: float, share: float) -> dict[str, Any]:
    """A version whose adapter is noise, on `burnish up` with the shipped model."""
    model = Path(__file__).parents[1] / "ember"
    env = {
        "BURNISH_MODEL": str(model),
        "BURNISH_PROMOTES": "challenger",
        "BURNISH_UPDATE_EVERY": "86400",
    }
    with tempfile.TemporaryDirectory() as scratch, run_service(Path(scratch), env=env) as service:
        registry = PolicyRegistry(service.mlflow_uri, keys=signing_keys(service.data_dir))
        (version,), _ = add_versions(registry, model, 1, noise=NOISE)
        seen, began, withdrawn_at, told = asyncio.run(
            withdraw_under_load(
                service.url, version, share, clients=clients, calm_s=calm_s, limit_s=limit_s
            )
        )
        database = Database(service.database_url)
        evidence_at = evidence_in_at(observed(database, version, began), CanarySettings())
        database.close()
    return figures_of(seen, version, began, withdrawn_at, told, evidence_at)


def goals_under_load(figures: Mapping[str, Any]) -> list[MustShow]:
    since, failed = figures["from_evidence_to_withdrawal_s"], figures["failed_requests"]
    after = figures["answered_by_it_though_withdrawn"]
    return [
        MustShow(
            "harmful version under load: seconds from the evidence to its withdrawal",
            since,
            "<= 60",
            since is not None and since <= 60,
        ),
        MustShow("requests and votes that failed meanwhile", failed, "0", not failed),
        MustShow("users given it though it was withdrawn", after, "0", not after),
    ]


def main(
    canaries: Annotated[int, typer.Option(help="Simulated canaries of a kind; 0: none.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the simulated users.")] = 0,
    service: Annotated[bool, typer.Option(help="A running service too.")] = True,
    clients: Annotated[int, typer.Option(help="At a time, on the service.")] = 8,
    share: Annotated[
        float, typer.Option(help="Of users whom the harmful version answers first.")
    ] = 0.05,
    calm_s: Annotated[float, typer.Option(help="Seconds of load before and after.")] = 10.0,
    limit_s: Annotated[float, typer.Option(help="Seconds until it must be withdrawn.")] = 1200.0,
    out: Annotated[Path, typer.Option(help="canary.json goes here.")] = FOLDER,
) -> None:
    """Measure how often a canary is wrong, what it costs to be right, and how fast it acts."""
    simulated, must_show = simulate(canaries, seed) if canaries else ({}, [])
    for name, figures in simulated.items():
        print_figures(name.replace("_", " "), figures)
    loaded: dict[str, Any] = {}
    if service:
        loaded = on_a_service(clients, calm_s, limit_s, share)
        must_show += goals_under_load(loaded)
        print_figures("a harmful version under load", loaded)
    told = {"simulated": simulated, "under_load": loaded}
    print(write_results("canary", told, out, must_show=must_show))
    raise typer.Exit(0 if all(shown.met for shown in must_show) else 1)


if __name__ == "__main__":
    typer.run(main)
