"""The gate's checks, one function each: the base's result against a candidate's gives a `Check`.

The margins respect the suite's sampling noise: a candidate as good as the base passes about 19 times
in 20, one that has lost a tenth of its skill does not. A new check is a function here and a line in
`gate.evaluate`. Left out: sycophancy, and harm to single cohorts of users.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from burnish.kernels.model import LoadedModel
from burnish.learner.gate.report import Check
from burnish.learner.gate.suite import Answers, mean
from burnish.learner.training.batching import TokenBatch, answer_logprobs, chunks
from burnish.learner.training.rollouts import Rollout

ONE_SIDED_95 = 1.645  # standard errors
WORST_OF_MANY = 3.0  # standard errors, where the worst of all families is looked at


@dataclass(frozen=True)
class GateLimits:
    """What a candidate may lose: shares of tasks against the base, KL in nats per token, and the
    least (and most) of length, entropy and diversity relative to the base."""

    skill_margin: float = 0.02
    family_margin: float = 0.1
    max_kl: float = 0.5
    length: tuple[float, float] = (0.25, 3.0)
    entropy: float = 0.15
    diversity: float = 0.35


Pairs = Mapping[str, tuple[Sequence[bool], Sequence[bool]]]
"""By family: which of its tasks the base and the candidate got right."""


def tasks(count: int) -> Check:
    """There is something to try a candidate on."""
    return Check(
        name="tasks",
        value=count,
        low=1,
        passed=count > 0,
        says="no task of BURNISH_TASKS can be put to this model, so nothing can be tested",
    )


def skill(by_family: Pairs, limits: GateLimits) -> Check:
    """The share of tasks right has not fallen by more than the margin and sampling noise."""
    old = [right for of_base, _ in by_family.values() for right in of_base]
    new = [right for _, of_candidate in by_family.values() for right in of_candidate]
    change, error = paired_difference(old, new)
    low = -(limits.skill_margin + ONE_SIDED_95 * error)
    return Check(
        name="skill",
        value=change,
        low=low,
        passed=change >= low,
        says=f"skill on held-out tasks moved by {change:+.3f} against the base (allowed: {low:.3f})",
    )


def families(by_family: Pairs, limits: GateLimits) -> Check:
    """The family that lost most, beyond the noise of so few tasks, has not lost too much."""
    worst = ("no family", 0.0, 0.0)
    least = math.inf  # distance to what is allowed
    for family, (old, new) in by_family.items():
        change, error = paired_difference(old, new)
        low = -(limits.family_margin + WORST_OF_MANY * max(error, 0.5 / len(old)))
        if change - low < least:
            worst, least = (family, change, low), change - low
    family, change, low = worst
    return Check(
        name="families",
        value=change,
        low=low,
        passed=change >= low,
        says=f"{family} moved by {change:+.3f} against the base (allowed: {low:.3f})",
    )


def kl(model: LoadedModel, rollouts: Sequence[Rollout], limits: GateLimits) -> Check:
    """The candidate has not moved too far from the base."""
    return _bounded("kl", kl_to_base(model, rollouts), high=limits.max_kl)


def length(base: Answers, candidate: Answers, limits: GateLimits) -> Check:
    """Answers have become neither much shorter nor much longer."""
    ratio = mean(candidate.lengths) / max(mean(base.lengths), 1.0)
    return _bounded("length", ratio, *limits.length)


def entropy(base: Answers, candidate: Answers, limits: GateLimits) -> Check:
    """The policy has not collapsed: it is still uncertain about its next token."""
    return _bounded("entropy", candidate.entropy / max(base.entropy, 1e-6), low=limits.entropy)


def diversity(base: Answers, candidate: Answers, limits: GateLimits) -> Check:
    """Answers do not repeat the same phrases."""
    ratio = candidate.diversity / max(base.diversity, 1e-6)
    return _bounded("diversity", ratio, low=limits.diversity)


def kl_to_base(model: LoadedModel, rollouts: Sequence[Rollout]) -> float:
    """KL of the candidate to the base in nats per token, estimated on the candidate's own rollouts
    (Schulman's k3 estimator: unbiased, and never negative)."""
    total, count = 0.0, 0
    for chunk in chunks([rollout for rollout in rollouts if rollout.token_ids]):
        of_base = answer_logprobs(model, chunk)
        behaviour = TokenBatch.of(chunk, of_base.device).behaviour
        log_ratio = (of_base - behaviour).clamp(max=10.0)
        total += float((torch.exp(log_ratio) - 1 - log_ratio).sum())
        count += len(of_base)
    return total / max(count, 1)


def paired_difference(old: Sequence[float], new: Sequence[float]) -> tuple[float, float]:
    """Mean of new - old over paired tasks, and its standard error."""
    differences = [float(b) - float(a) for a, b in zip(old, new, strict=True)]
    average = mean(differences)
    variance = mean([(d - average) ** 2 for d in differences])
    return average, math.sqrt(variance / max(len(differences), 1))


def _bounded(name: str, value: float, low: float | None = None, high: float | None = None) -> Check:
    passed = (low is None or value >= low) and (high is None or value <= high)
    bounds = f"{'' if low is None else low}..{'' if high is None else high}"
    return Check(
        name=name,
        value=value,
        low=low,
        high=high,
        passed=passed,
        says=f"{name} is {value:.3f}{'' if name == 'kl' else ' of the base'} (allowed: {bounds})",
    )
