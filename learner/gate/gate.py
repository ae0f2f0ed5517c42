"""The gate: held-out checks that a candidate must pass before it serves anyone.

Deterministic: the suite (suite.py) and its seeds are fixed for each base model; the checks
(checks.py) compare the candidate's result with the base's.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from burnish.kernels.lora import AdapterWeights
from burnish.learner.gate import checks
from burnish.learner.gate.checks import GateLimits
from burnish.learner.gate.report import GateReport
from burnish.learner.gate.suite import EvalResult, Suite, mean
from burnish.learner.training.rollouts import Sampler

ADAPTER = "gate"  # the candidate's name in the sampler


def evaluate(
    suite: Suite,
    sampler: Sampler,
    candidate: AdapterWeights,
    base: EvalResult,
    limits: GateLimits,
    left_out: Collection[str] = (),
) -> GateReport:
    """Run the candidate on the suite and check its result against the base's. The families `left_out`
    are answered, but their tasks do not count as right or wrong."""
    started = time.monotonic()
    sampler.set_adapter_weights(ADAPTER, candidate)
    try:
        rollouts = suite.rollouts(sampler, ADAPTER)
    finally:
        sampler.unload_adapter(ADAPTER)
    answers = suite.answers(rollouts)
    result = suite.grade(answers)
    by_family = suite.by_family(base, result, left_out)
    checked = [
        checks.skill(by_family, limits),
        checks.families(by_family, limits),
        checks.kl(suite.model, rollouts, limits),
        checks.length(base.answers, answers, limits),
        checks.entropy(base.answers, answers, limits),
        checks.diversity(base.answers, answers, limits),
    ]
    if not suite.tasks:
        checked = [checks.tasks(0)]
    return GateReport(
        passed=all(check.passed for check in checked),
        base_sha256=suite.model.sha256,
        suite=suite.digest,
        tasks=len(suite.tasks),
        seconds=round(time.monotonic() - started, 3),
        checks=checked,
        skill=mean([right for _, new in by_family.values() for right in new]),
        base_skill=mean([right for old, _ in by_family.values() for right in old]),
        families={family: (mean(old), mean(new)) for family, (old, new) in by_family.items()},
    )
