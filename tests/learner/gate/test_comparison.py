"""Non-inferiority on tasks that are tosses of a coin: who passes, who does not, and what it costs."""

from collections.abc import Mapping

import numpy as np
from burnish.learner.gate.comparison import Comparison, Effort, Line, compare

FAMILIES = {f"family {n}": rate for n, rate in enumerate([0.5, 0.6, 0.7, 0.8, 0.9, 0.99])}
LINES = [Line(name, 0.1, counts=rate < 0.95) for name, rate in FAMILIES.items()]


def run(
    shifts: Mapping[str, float], seed: int = 0, most: int = 1000, champion: float = 0.0
) -> Comparison:
    """A candidate whose rates are the base's and these; half of the tasks come out alike for both."""
    rng = np.random.default_rng(seed)

    def ask(tasks):
        scores = []
        for name, _ in tasks:
            rate, same = FAMILIES[name], rng.random()
            draws = [same if rng.random() < 0.5 else rng.random() for _ in range(3)]
            rates = (rate + shifts.get(name, 0.0), rate + champion, rate)
            scores.append(tuple(float(u < r) for u, r in zip(draws, rates, strict=True)))
        return scores

    return compare(LINES, ["champion", "base"], 0.02, ask, Effort(most=most))


def verdicts(found: Comparison) -> set[str]:
    of_lines = {p.verdict for of in found.by_line.values() for p in of.values()}
    return of_lines | {paired.verdict for paired in found.whole.values()}


def everywhere(shift: float) -> dict[str, float]:
    return dict.fromkeys(FAMILIES, shift)


def test_a_slightly_better_candidate_is_kept():
    kept = [verdicts(run(everywhere(0.01), seed)) == {"kept"} for seed in range(10)]
    assert sum(kept) >= 9


def test_half_of_one_skill_is_never_let_through_and_soon_seen():
    for seed in range(10):
        found = run({"family 3": -0.4}, seed)
        assert any(of["family 3"].verdict == "lost" for of in found.by_line.values())
        assert found.rates["family 3"].count < 250


def test_five_points_of_every_skill_are_not_let_through():
    assert all(verdicts(run(everywhere(-0.05), seed)) != {"kept"} for seed in range(10))


def test_who_is_worse_than_the_champion_alone_does_not_pass():
    found = run({}, champion=0.08)
    assert found.whole["champion"].verdict == "lost"
    assert found.whole["base"].verdict != "lost"


def test_few_tasks_are_no_leniency():
    found = run(everywhere(0.0), most=12)  # ten times as many in all
    assert sum(found.rates[name].count for name in FAMILIES) <= 11 * 12
    assert verdicts(found) == {"undecided"}


def test_only_what_is_open_is_asked_on():
    found = run({"family 1": -0.09}, seed=3)
    assert found.rates["family 1"].count > 2 * found.rates["family 5"].count


def test_a_checker_without_a_verdict_costs_that_task_alone():
    def ask(tasks):
        return [(None, 1.0) if number == 0 else (1.0, 1.0) for _, number in tasks]

    found = compare([Line("one", 0.1)], ["base"], 0.1, ask)
    assert found.by_line["base"]["one"].verdict == "kept"
    assert found.rates["one"].means == (1.0, 1.0)
