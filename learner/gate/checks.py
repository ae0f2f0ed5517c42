"""The gate's checks, one function each: a candidate beside a reference gives a `Check`.

`skill` and `families` put what a comparison has shown into words. The others bound figures of the answers to
the suite's first look. A new check is a function here and a line in `gate.evaluate`; a check of a product's
own needs neither (plugins.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise

import torch
from burnish.kernels.model import LoadedModel
from burnish.learner.gate.answers import BASE, Answer
from burnish.learner.gate.comparison import Comparison, Paired
from burnish.learner.gate.limits import GateLimits
from burnish.learner.gate.report import Check
from burnish.learner.training.batching import TokenBatch, answer_logprobs, chunks
from burnish.learner.training.rollouts import Rollout

DIVERSITY_TOKENS = 24  # first tokens of each answer that count, so that its length does not


def tasks(count: int) -> Check:
    """There is something to try a candidate on."""
    return Check(
        name="tasks",
        value=count,
        low=1,
        passed=count > 0,
        says="no task of BURNISH_TASKS can be put to this model, so nothing can be tested",
    )


def skill(found: Comparison, reference: str) -> Check:
    """All skills together have not fallen by more than the margin."""
    paired = found.whole[reference]
    return _proven("skill", "skill", paired, reference, found.lost)


def families(found: Comparison, reference: str, names: Collection[str], what: str) -> Check:
    """None of these lines has lost more than its margin; the worst of them is told. `what` they are."""
    worst = {"lost": 0, "undecided": 1, "kept": 2}
    of = {name: paired for name, paired in found.by_line[reference].items() if name in names}
    ranked = sorted(of, key=lambda n: (worst[of[n].verdict], of[n].bounds.lower + of[n].margin))
    check = _proven(what, ranked[0], of[ranked[0]], reference, found.lost)
    same = [name for name in ranked[1:] if of[name].verdict == of[ranked[0]].verdict]
    if check.passed or not same:
        return check
    return check.model_copy(update={"says": f"{check.says}, and so for {', '.join(same)}"})


def kl(model: LoadedModel, rollouts: Sequence[Rollout], limits: GateLimits) -> Check:
    """The candidate has not moved too far from the base."""
    value = kl_to_base(model, rollouts)
    says = f"KL to the base is {value:.3f} nats per token (allowed: {limits.max_kl:g})"
    return _bounded("kl", value, says, high=limits.max_kl)


def length(
    reference: str, theirs: Sequence[Answer], ours: Sequence[Answer], limits: GateLimits
) -> Check:
    """Answers have become neither much shorter nor much longer."""
    low, high = limits.length if reference == BASE else limits.length_step
    ratio = mean([len(a.token_ids) for a in ours]) / max(
        mean([len(a.token_ids) for a in theirs]), 1.0
    )
    says = (
        f"answers are {ratio:.2f} times as long as the {reference}'s (allowed: {low:g} to {high:g})"
    )
    return _bounded(f"length/{reference}", ratio, says, low, high)


def entropy(
    reference: str, theirs: Sequence[Answer], ours: Sequence[Answer], limits: GateLimits
) -> Check:
    """The policy has not collapsed: it is still uncertain about its next token."""
    low = limits.entropy if reference == BASE else limits.entropy_step
    ratio = entropy_of(ours) / max(entropy_of(theirs), 1e-6)
    says = f"entropy per token is {ratio:.2f} of the {reference}'s (allowed: {low:g} or more)"
    return _bounded(f"entropy/{reference}", ratio, says, low)


def diversity(
    reference: str, theirs: Sequence[Answer], ours: Sequence[Answer], limits: GateLimits
) -> Check:
    """Answers do not all repeat the same phrases. Of each pair of answers as many tokens count."""
    low = limits.diversity if reference == BASE else limits.diversity_step
    cuts = [
        min(DIVERSITY_TOKENS, len(a.token_ids), len(b.token_ids))
        for a, b in zip(theirs, ours, strict=True)
    ]
    of_theirs, of_ours = (
        distinct_bigrams([a.token_ids[:cut] for a, cut in zip(of, cuts, strict=True)])
        for of in (theirs, ours)
    )
    ratio = of_ours / of_theirs if of_theirs else 1.0
    says = (
        f"answers are {ratio:.2f} times as diverse as the {reference}'s (allowed: {low:g} or more)"
    )
    return _bounded(f"diversity/{reference}", ratio, says, low)


def entropy_of(answers: Sequence[Answer]) -> float:
    """Nats per token, as sampled."""
    return -mean([p for answer in answers for p in answer.logprobs])


def kl_to_base(model: LoadedModel, rollouts: Sequence[Rollout]) -> float:
    """KL of the candidate to the base in nats per token, estimated on the candidate's own rollouts
    (Schulman's k3 estimator: unbiased, and never negative)."""
    total, count = 0.0, 0
    with torch.no_grad():
        for chunk in chunks([rollout for rollout in rollouts if rollout.token_ids]):
            logprobs = answer_logprobs(model, chunk)
            batch = TokenBatch.of(chunk, logprobs.device)
            log_ratio = (batch.chosen(logprobs) - batch.behaviour).clamp(max=10.0)
            total += float((torch.exp(log_ratio) - 1 - log_ratio).sum())
            count += len(batch.token_ids)
    return total / max(count, 1)


def distinct_bigrams(answers: Sequence[Sequence[int]]) -> float:
    """Share of token bigrams that are distinct (distinct-2, Li et al. 2016); 0 when there are none."""
    bigrams = [pair for tokens in answers for pair in pairwise(tokens)]
    return len(set(bigrams)) / max(len(bigrams), 1)


def paired_difference(old: Sequence[float], new: Sequence[float]) -> tuple[float, float]:
    """Mean of new - old over paired tasks, and its standard error."""
    differences = [float(b) - float(a) for a, b in zip(old, new, strict=True)]
    average = mean(differences)
    variance = mean([(d - average) ** 2 for d in differences])
    return average, math.sqrt(variance / max(len(differences), 1))


def mean(values: Sequence[float] | Sequence[int] | Sequence[bool]) -> float:
    """The arithmetic mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def _proven(name: str, told: str, paired: Paired, reference: str, stopped: bool) -> Check:
    """A paired comparison in words; `stopped`: no more was asked since something is lost."""
    change, low = paired.seen.mean, -paired.margin
    lower, upper = paired.bounds.lower, paired.bounds.upper
    moved = f"{told} moved by {change:+.3f} against the {reference}"
    allowed = f"(allowed: {low:+.2f})"
    says = {
        "kept": f"{moved}, and surely by {lower:+.3f} at least {allowed}",
        "lost": f"{moved}, and surely by {upper:+.3f} at most {allowed}",
        "undecided": f"{moved}, and {lower:+.3f} to {upper:+.3f} is possible after"
        f" {paired.seen.count} tasks {allowed}: "
        + ("not asked to the end" if stopped else "undecided, which does not pass"),
    }[paired.verdict]
    return Check(
        name=f"{name}/{reference}",
        value=change,
        low=low,
        passed=paired.verdict == "kept",
        says=says,
        bounds=(lower, upper),
        undecided=paired.verdict == "undecided",
    )


def _bounded(
    name: str, value: float, says: str, low: float | None = None, high: float | None = None
) -> Check:
    passed = (low is None or value >= low) and (high is None or value <= high)
    return Check(name=name, value=value, low=low, high=high, passed=passed, says=says)
