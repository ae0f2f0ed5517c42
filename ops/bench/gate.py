"""The gate's power: `python -m burnish.ops.bench.gate`.

First on tasks that are tosses of a coin, with the shipped model's own rates: who passes, and after how many
tasks. Then on the shipped model: twenty planted bad candidates and thirty good ones (lib/gate_candidates.py and
lib/voted_candidates.py say how they are made), each at the gate of a first update, where the champion is the
base, with the votes of a crowd to say what people would think of it. Cost is in seconds of one CPU
thread, since other work on the machine does not change it; wall seconds are told beside it. A run that is broken
off goes on where it stood with the same `--kept`.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import Annotated, Any

import torch
import typer
from burnish.learner.gate.answers import CANDIDATE, Panel
from burnish.learner.gate.calibration import SOLVED
from burnish.learner.gate.comparison import Comparison, Effort, Line, compare
from burnish.learner.gate.gate import evaluate
from burnish.learner.gate.limits import GateLimits
from burnish.learner.settings import LearnerSettings
from burnish.learner.update.start import fresh_adapter
from burnish.learner.update.tick import Learner
from burnish.ops.bench.lib.gate_candidates import (
    PlantedPanel,
    Swaps,
    right_answers,
    spoilt,
    taught,
)
from burnish.ops.bench.lib.learning_loop import LearningLoop
from burnish.ops.bench.lib.results import FOLDER, MustShow, write_results
from burnish.ops.bench.lib.voted_candidates import VotedCandidates
from rich.console import Console

HALVED = 6  # families
WORSE = 5  # candidates that lost five points everywhere
POINTS, GAINS = 0.05, (0.01, 0.02, 0.03)
GOOD_SWAPPED, GOOD_TAUGHT = 24, 6
ALIKE = 0.7  # of the tosses of each policy
console = Console(stderr=True)


def main(
    tosses: Annotated[int, typer.Option(help="Simulated candidates of each kind.")] = 30,
    model: Annotated[bool, typer.Option(help="Try the shipped model too.")] = True,
    votes: Annotated[int, typer.Option(help="Of the crowd.")] = 1024,
    kept: Annotated[Path | None, typer.Option(help="Trials of a run to go on with.")] = None,
    out: Annotated[Path, typer.Option(help="gate.json goes here.")] = FOLDER,
) -> None:
    """Measure whom the gate lets through, and what that costs."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        file = kept or Path(scratch) / "trials.jsonl"
        settings = LearnerSettings(
            model=Path(__file__).parents[1] / "ember", data_dir=Path(scratch), update_every=20
        )
        loop = LearningLoop(settings)
        learner = loop.learner
        rates = dict(learner.calibration.rates)
        simulated = {name: toss(rates, *of, tosses) for name, of in KINDS.items()}
        console.print(simulated)
        trials = try_model(loop, votes, file) if model else []
    figures = {"rates": rates, "simulated": simulated, "trials": trials}
    print(write_results("gate", figures, out, must_show=check_goals(simulated, trials)))


# What a candidate does to the rate of a family, and whether it is good.
Shift = Callable[[Random, str, float], float]
KINDS: Mapping[str, tuple[Shift, bool]] = {
    "half of one skill lost": (lambda rng, chosen, rate: -0.5 * rate if chosen else 0.0, False),
    "five points lost": (lambda rng, chosen, rate: -POINTS, False),
    "as good": (lambda rng, chosen, rate: 0.0, True),
    "a point better": (lambda rng, chosen, rate: 0.01, True),
    "two points better, families two apart": (
        lambda rng, chosen, rate: 0.02 + rng.gauss(0, 0.02),
        True,
    ),
}


def toss(rates: Mapping[str, float], shift: Shift, good: bool, count: int) -> dict[str, Any]:
    """What the gate says of so many candidates on coins."""
    found = [toss_one(rates, shift, seed) for seed in range(count)]
    asked = [sum(of.count for of in comparison.rates.values()) for comparison in found]
    return {
        "good": good,
        "passed": sum(comparison.kept for comparison in found),
        "of": count,
        "median_tasks": statistics.median(asked),
    }


def toss_one(rates: Mapping[str, float], shift: Shift, seed: int) -> Comparison:
    """One candidate, a champion and a base: more than half of the tasks come out alike for two of them, as
    with common seeds."""
    limits, rng, names = GateLimits(), Random(f"{seed}/toss"), list(rates)
    theirs = {name: min(0.99, rates[name]) for name in names}
    chosen = names[seed % len(names)]
    ours = {n: theirs[n] + shift(rng, "yes" if n == chosen else "", theirs[n]) for n in names}

    def ask(wanted: Sequence[tuple[str, int]]) -> list[tuple[float, ...]]:
        scores = []
        for name, _ in wanted:
            same = rng.random()
            draws = [same if rng.random() < ALIKE else rng.random() for _ in range(3)]
            odds = (ours[name], theirs[name], theirs[name])
            scores.append(tuple(float(u < p) for u, p in zip(draws, odds, strict=True)))
        return scores

    lines = [Line(n, limits.family_margin, SOLVED[0] <= rates[n] <= SOLVED[1]) for n in names]
    return compare(lines, ["champion", "base"], limits.skill_margin, ask, Effort())


def try_model(loop: LearningLoop, votes: int, file: Path) -> list[dict[str, Any]]:
    """The trials on the shipped model, those in `file` as they stand there."""
    crowd = VotedCandidates(loop, votes)
    known = (
        {t["name"]: t for t in map(json.loads, file.read_text().splitlines())}
        if file.exists()
        else {}
    )
    gate = loop.learner.gate
    for name, good, make in candidates(loop.learner, crowd):
        if name in known:
            continue
        panel = make()
        cpu, wall = time.process_time(), time.monotonic()
        report = evaluate(gate, panel, crowd.logged)
        known[name] = {
            "name": name,
            "good": good,
            "passed": report.passed,
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "wall_seconds": round(time.monotonic() - wall, 1),
            "answers": report.answers,
            "skill": round(report.skill, 4),
            "base_skill": round(report.base_skill, 4),
            "failed": [c.name for c in report.checks if not c.passed and not c.undecided],
            "undecided": [c.name for c in report.checks if c.undecided],
            "why_not": report.why_not,
        }
        with file.open("a") as lines:
            lines.write(json.dumps(known[name]) + "\n")
        console.print(known[name], highlight=False)
    return list(known.values())


def candidates(
    learner: Learner, crowd: VotedCandidates
) -> Iterator[tuple[str, bool, Callable[[], Panel]]]:
    """Each candidate's name, whether it is good, and its panel."""
    rates = learner.calibration.rates
    uncertain = sorted(learner.calibration.counted)
    adapter = fresh_adapter(learner.model, learner.settings)

    def swapped(swaps: Swaps) -> Callable[[], Panel]:
        return lambda: PlantedPanel(
            learner.model,
            learner.engine,
            learner.suite.max_tokens,
            learner.base_answers,
            {CANDIDATE: adapter},
            swaps,
        )

    for number in range(max(HALVED, GOOD_SWAPPED)):
        if number < HALVED:
            family = uncertain[number % len(uncertain)]
            yield (
                f"swapped: half of {family} lost",
                False,
                swapped(Swaps({family: 0.5}, {}, seed=number)),
            )
        if number < WORSE:
            lose = {family: POINTS / max(rate, POINTS) for family, rate in rates.items()}
            yield (
                f"swapped: five points lost, {number}",
                False,
                swapped(Swaps(lose, {}, seed=number)),
            )
        if number < GOOD_SWAPPED:
            gain = GAINS[number % len(GAINS)]
            gains = {f: min(1.0, gain / max(1 - rate, gain)) for f, rate in rates.items()}
            name = f"swapped: up to {gain:.0%} better, {number}"
            yield name, True, swapped(Swaps({}, gains, seed=number))
    right = right_answers(learner, 24, seed=1)
    for name, weights in chain(spoilt(learner, right), crowd.bad()):
        yield f"adapter: {name}", False, lambda w=weights: learner.panel(candidate=w)
    for number in range(GOOD_TAUGHT):
        more = right_answers(learner, 48, seed=100 + number)
        weights = taught(learner, more, steps=10, rate=5e-4, kl_weight=0.25, seed=number)
        name = f"adapter: rehearsed on its own right answers, {number}"
        yield name, True, lambda w=weights: learner.panel(candidate=w)


def check_goals(
    simulated: Mapping[str, Mapping[str, Any]], trials: list[dict[str, Any]]
) -> list[MustShow]:
    let = sum(s["passed"] for s in simulated.values() if not s["good"])
    shown = [MustShow("bad candidates that passed, on coins", let, "0", let == 0)]
    if not trials:
        return shown
    bad = [trial for trial in trials if not trial["good"]]
    good = [trial for trial in trials if trial["good"]]
    blocked, promoted = sum(not t["passed"] for t in bad), sum(t["passed"] for t in good)
    cost = statistics.median(trial["cpu_seconds"] for trial in trials)
    return [
        *shown,
        MustShow("planted bad candidates blocked", blocked, "20 of 20", blocked == len(bad) == 20),
        MustShow("good candidates promoted", promoted, ">= 27 of 30", promoted >= 27),
        MustShow("median cost of a gate, CPU seconds", cost, "<= 60", cost <= 60),
    ]


if __name__ == "__main__":
    typer.run(main)
