"""Losses over the log-probabilities of whole answers, as advantages: what `kto`, `dpo` and `grpo` share.

For any loss L of log pi(y|x), the gradient is the sum over answers of dL/dlog pi(y|x) times the gradient of
log pi(y|x). The trainer's gain has the gradient (1/T) sum of A(y) times the same, over T tokens, where the
importance ratio is one; with A(y) = -T dL/dlog pi(y|x) its step descends L exactly. So a rule gives each
slope in closed form, and takes the present log-probabilities for the behaviour's.

What the trainer adds to a loss of one's own: its KL penalty and budget against the base, both over the
answers of the batch. BURNISH_KL_WEIGHT=0 with a BURNISH_KL_BUDGET that is never reached leaves L alone.
Left out: rehearsal, which the published methods do not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import PolicySampler

Entry = TypeVar("Entry")

EPOCHS = 2  # over a log in one update


@dataclass(frozen=True)
class ScoredAnswer:
    """An answer with the present policy's log-probabilities, and the log-ratio log pi - log pi_base of
    the whole of it, in nats."""

    rollout: Rollout
    log_ratio: float


def scored(policy: PolicySampler, answers: Sequence[Rollout]) -> list[ScoredAnswer]:
    """Given answers as they stand under the present weights."""
    present, base = policy.logprobs(answers), policy.base_logprobs(answers)
    return [
        ScoredAnswer(replace(answer, logprobs=own), sum(own) - sum(frozen))
        for answer, own, frozen in zip(answers, present, base, strict=True)
    ]


def descending(answers: Iterable[Rollout], slopes: Iterable[float]) -> list[Rollout]:
    """The answers with the advantages whose step descends a loss, given dL/dlog pi(y|x) of each.

    All of them go into one step; those without a slope are left out.
    """
    kept = [(answer, slope) for answer, slope in zip(answers, slopes, strict=True) if slope]
    tokens = sum(len(answer.token_ids) for answer, _ in kept)
    return [answer.with_advantage(-tokens * slope) for answer, slope in kept]


def read_in_batches(log: Sequence[Entry], size: int, seed: int) -> list[list[Entry]]:
    """Of each step the entries it learns from: all of the log in every epoch, shuffled anew."""
    rng = Random(seed)
    epochs = [rng.sample(log, len(log)) for _ in range(EPOCHS)]
    return [epoch[i : i + size] for epoch in epochs for i in range(0, len(log), size)]
