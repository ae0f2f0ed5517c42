"""The gate: held-out checks that a candidate must pass before it serves anyone.

A first look bounds how the candidate answers (checks.py). Then it has to show that it is no worse at
anything than the champion and the base (comparison.py), on tasks and seeds that are fixed for each base
model. The same candidate gets the same report.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from burnish.learner.gate import checks
from burnish.learner.gate.answers import BASE, CANDIDATE, Answer, Panel
from burnish.learner.gate.calibration import Calibration, calibrate
from burnish.learner.gate.checks import mean
from burnish.learner.gate.comparison import Effort, Line, compare
from burnish.learner.gate.limits import GateLimits
from burnish.learner.gate.report import Check, GateReport
from burnish.learner.gate.suite import Suite


def evaluate(
    suite: Suite, panel: Panel, calibration: Calibration, limits: GateLimits
) -> GateReport:
    """Put the panel's candidate through the gate."""
    started = time.monotonic()
    lines = [
        Line(family, limits.family_margin, counts=family in calibration.counted)
        for family in suite.streams
        if family not in calibration.never
    ]

    def ask(wanted: Sequence[tuple[str, int]]) -> list[tuple[float | None, ...]]:
        questions = [suite.streams[name].question(number) for name, number in wanted]
        answers = panel.answers(questions)
        return [
            tuple(
                _score(suite.verdict(question, answers[policy][at]))
                for policy in (CANDIDATE, *panel.references)
            )
            for at, question in enumerate(questions)
        ]

    with panel.seated():
        looked = panel.answers(suite.questions)
        effort = Effort(suite.per_family, most=limits.most_tasks, alpha=limits.alpha)
        found = compare(lines, panel.references, limits.skill_margin, ask, effort)
    checked: list[Check] = []
    if not lines:
        checked.append(checks.tasks(0))
    for reference in panel.references if lines else []:
        if found.whole:
            checked.append(checks.skill(found, reference))
        names = [line.name for line in lines]
        checked.append(checks.families(found, reference, names, "families"))
    if suite.questions:
        checked += _manner(suite, panel, looked, limits)
    places = {policy: at for at, policy in enumerate((CANDIDATE, *panel.references))}
    means = {name: rates.means for name, rates in found.rates.items() if rates.count}
    return GateReport(
        passed=all(check.passed for check in checked),
        base_sha256=suite.model.sha256,
        suite=suite.digest,
        tasks=len(suite.questions),
        asked={name: rates.count for name, rates in found.rates.items()},
        seconds=round(time.monotonic() - started, 3),
        checks=checked,
        skill=mean([rates[0] for rates in means.values()]),
        base_skill=mean([rates[places[BASE]] for rates in means.values()]),
        families={name: (rates[places[BASE]], rates[0]) for name, rates in means.items()},
        answers=panel.drawn,
    )


def calibrate_base(suite: Suite, panel: Panel) -> Calibration:
    """What the base makes of the suite's first look; `panel` has nobody else."""
    with panel.seated():
        answers = panel.answers(suite.questions)[BASE]
    verdicts: dict[str, list[bool]] = defaultdict(list)
    given = iter(answers)
    for family, questions in suite.first.items():
        right = [suite.verdict(question, next(given)) for question in questions]
        verdicts[family] += [verdict for verdict in right if verdict is not None]
    return calibrate(verdicts, suite.source.calibrated)


def _manner(
    suite: Suite, panel: Panel, looked: dict[str, list[Answer]], limits: GateLimits
) -> list[Check]:
    """How the candidate answers the first look."""
    ours = looked[CANDIDATE]
    found = [checks.kl(suite.model, panel.rollouts(suite.questions, ours), limits)]
    for reference in panel.references:
        theirs = looked[reference]
        for check in (checks.length, checks.entropy, checks.diversity):
            found.append(check(reference, theirs, ours, limits))
    return found


def _score(verdict: bool | None) -> float | None:
    return None if verdict is None else float(verdict)
