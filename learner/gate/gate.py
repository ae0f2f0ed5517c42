"""The gate: held-out checks that a candidate must pass before it serves anyone.

Deterministic: the suite (suite.py) and its seeds are fixed for each base model; the checks
(checks.py) compare the candidate's result with the base's.
"""

from __future__ import annotations

import time

from burnish.kernels.lora import AdapterWeights
from burnish.learner.gate import checks
from burnish.learner.gate.checks import GateLimits
from burnish.learner.gate.report import GateReport
from burnish.learner.gate.suite import EvalResult, Suite, mean
from burnish.learner.training.rollouts import Sampler

ADAPTER = "gate"  # the candidate's name in the sampler


def evaluate(
    suite: Suite, sampler: Sampler, candidate: AdapterWeights, base: EvalResult, limits: GateLimits
) -> GateReport:
    """Run the candidate on the suite and check its result against the base's."""
    started = time.monotonic()
    sampler.set_adapter_weights(ADAPTER, candidate)
    try:
        rollouts = suite.rollouts(sampler, ADAPTER)
    finally:
        sampler.unload_adapter(ADAPTER)
    result = suite.grade(rollouts)
    by_family = suite.by_family(base, result)
    checked = [
        checks.skill(base, result, limits),
        checks.families(by_family, limits),
        checks.kl(suite.model, rollouts, limits),
        checks.length(base, result, limits),
        checks.entropy(base, result, limits),
        checks.diversity(base, result, limits),
    ]
    return GateReport(
        passed=all(check.passed for check in checked),
        base_sha256=suite.model.sha256,
        suite=suite.digest,
        tasks=len(suite.tasks),
        seconds=round(time.monotonic() - started, 3),
        checks=checked,
        skill=result.skill,
        base_skill=base.skill,
        families={family: (mean(old), mean(new)) for family, (old, new) in by_family.items()},
    )
