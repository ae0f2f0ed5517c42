"""The gate: held-out tests that a candidate must pass before anyone is served by it.

Deterministic: one fixed suite of held-out tasks per base, one seed per task, so that base and
candidate draw with the same luck and are compared task by task. The base's own figures are computed
once and kept. The margins respect the suite's noise: a candidate as good as the base passes about
19 times in 20, one that has lost a tenth of its skill does not. Left out: sycophancy and cohorts.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

from burnish.kernels.lora import AdapterWeights
from burnish.kernels.model import LoadedModel
from burnish.learner.tasks import FAMILIES, Task, is_correct, sample
from burnish.learner.training.trainer import Answer, Sampler, Tokens, chunks, fits, task_prompt
from burnish.serving.engine import Request, SamplingParams
from pydantic import BaseModel

ONE_SIDED_95 = 1.645
WORST_OF_MANY = 3.0  # standard errors, for a look at every family
HEAD = 24  # tokens of each answer that count for diversity, so that length does not


@dataclass(frozen=True)
class Limits:
    """What a candidate may lose. KL in nats per token; the rest relative to the base."""

    skill_margin: float = 0.02
    family_margin: float = 0.1
    max_kl: float = 0.5
    length: tuple[float, float] = (0.25, 3.0)
    entropy: float = 0.15
    diversity: float = 0.35


class Check(BaseModel):
    """One test: `value` must lie in [low, high], where these are set."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    passed: bool
    says: str


class GateReport(BaseModel):
    passed: bool
    base_sha256: str
    suite: str
    tasks: int
    seconds: float
    checks: list[Check]
    skill: float
    base_skill: float
    families: dict[str, tuple[float, float]]  # base, candidate

    @property
    def why_not(self) -> str | None:
        failed = [check.says for check in self.checks if not check.passed]
        return "; ".join(failed) or None


class EvalResult(BaseModel):
    """What one policy did on the suite."""

    right: list[bool]
    lengths: list[int]
    entropy: float
    diversity: float


class Suite:
    """The held-out tasks of one base: `per_family` of each family, the same ones for ever."""

    def __init__(self, model: LoadedModel, per_family: int, max_tokens: int) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self.tasks: list[Task] = []
        for family in FAMILIES:
            rng = Random(f"{model.sha256}/{family}")
            wanted = len(self.tasks) + per_family
            while len(self.tasks) < wanted:
                task = sample(rng, family, "heldout")
                if fits(model, task, max_tokens):
                    self.tasks.append(task)
        prompts = [task.key for task in self.tasks]
        self.digest = hashlib.sha256(json.dumps([prompts, max_tokens]).encode()).hexdigest()[:16]

    def answers(self, sampler: Sampler, adapter: str | None) -> list[Answer]:
        """One answer to each task at temperature 1, by seeds that never change."""
        requests = [
            Request(
                id=f"gate-{number}",
                prompt_ids=task_prompt(self.model, task),
                params=SamplingParams(max_tokens=self.max_tokens, seed=number),
                adapter=adapter,
            )
            for number, task in enumerate(self.tasks)
        ]
        done = sampler.generate_batch(requests)
        return [
            Answer(request.prompt_ids, answer.token_ids, answer.logprobs, 0.0, answer.text)
            for request, answer in zip(requests, done, strict=True)
        ]

    def trials(self, answers: Sequence[Answer]) -> EvalResult:
        pairs = zip(self.tasks, answers, strict=True)
        return EvalResult(
            right=[is_correct(task, answer.text) for task, answer in pairs],
            lengths=[len(answer.tokens) for answer in answers],
            entropy=-_mean([p for answer in answers for p in answer.logprobs]),
            diversity=distinct_bigrams([answer.tokens[:HEAD] for answer in answers]),
        )

    def base_trials(self, sampler: Sampler, folder: Path) -> EvalResult:
        """The base's own figures; computed the first time, then read from `folder`."""
        file = folder / f"{self.model.sha256[:16]}-{self.digest}.json"
        if file.exists():
            return EvalResult.model_validate_json(file.read_text())
        trials = self.trials(self.answers(sampler, None))
        folder.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(trials.model_dump_json())
        draft.rename(file)
        return trials


def examine(
    suite: Suite, sampler: Sampler, candidate: AdapterWeights, base: EvalResult, limits: Limits
) -> GateReport:
    """Put a candidate through the suite."""
    started = time.monotonic()
    sampler.set_adapter_weights("gate", candidate)
    try:
        answers = suite.answers(sampler, "gate")
    finally:
        sampler.unload_adapter("gate")
    trials = suite.trials(answers)
    checks = [
        _skill(base, trials, limits),
        _families(suite, base, trials, limits),
        _bounded("kl", kl_to_base(suite.model, answers), high=limits.max_kl),
        _bounded("length", _mean(trials.lengths) / max(_mean(base.lengths), 1.0), *limits.length),
        _bounded("entropy", trials.entropy / max(base.entropy, 1e-6), low=limits.entropy),
        _bounded("diversity", trials.diversity / max(base.diversity, 1e-6), low=limits.diversity),
    ]
    return GateReport(
        passed=all(check.passed for check in checks),
        base_sha256=suite.model.sha256,
        suite=suite.digest,
        tasks=len(suite.tasks),
        seconds=round(time.monotonic() - started, 3),
        checks=checks,
        skill=_mean(trials.right),
        base_skill=_mean(base.right),
        families={
            family: (_mean(old), _mean(new))
            for family, (old, new) in _by_family(suite, base, trials).items()
        },
    )


def kl_to_base(model: LoadedModel, answers: Sequence[Answer]) -> float:
    """KL of the candidate to the base in nats per token, estimated on the candidate's own answers
    (Schulman's k3: unbiased and never negative)."""
    total, count = 0.0, 0
    for rows in chunks([answer for answer in answers if answer.tokens]):
        logits = model.read([a.prompt + a.tokens for a in rows], [len(a.prompt) for a in rows])
        batch = Tokens.of(rows, logits.device)
        base = logits.log_softmax(-1).gather(1, batch.chosen[:, None]).squeeze(1)
        ratio = (base - batch.behaviour).clamp(max=10.0)
        total += float((ratio.exp() - 1 - ratio).sum())
        count += len(batch.chosen)
    return total / max(count, 1)


def distinct_bigrams(answers: Sequence[Sequence[int]]) -> float:
    """Share of token pairs that are not repetitions of another one."""
    pairs = [pair for tokens in answers for pair in pairwise(tokens)]
    return len(set(pairs)) / max(len(pairs), 1)


def paired_difference(old: Sequence[bool], new: Sequence[bool]) -> tuple[float, float]:
    """Mean of new - old over the tasks, and its standard error."""
    differences = [int(b) - int(a) for a, b in zip(old, new, strict=True)]
    mean = _mean(differences)
    variance = _mean([(d - mean) ** 2 for d in differences])
    return mean, math.sqrt(variance / max(len(differences), 1))


def _skill(base: EvalResult, trials: EvalResult, limits: Limits) -> Check:
    mean, error = paired_difference(base.right, trials.right)
    low = -(limits.skill_margin + ONE_SIDED_95 * error)
    return Check(
        name="skill",
        value=mean,
        low=low,
        passed=mean >= low,
        says=f"skill on held-out tasks moved by {mean:+.3f} against the base (allowed: {low:.3f})",
    )


def _families(suite: Suite, base: EvalResult, trials: EvalResult, limits: Limits) -> Check:
    """The family that lost most, beyond what luck does to so few tasks."""
    worst = ("", math.inf, 0.0)
    for family, (old, new) in _by_family(suite, base, trials).items():
        mean, error = paired_difference(old, new)
        low = -(limits.family_margin + WORST_OF_MANY * max(error, 0.5 / len(old)))
        if mean - low < worst[1] - worst[2]:
            worst = (family, mean, low)
    family, mean, low = worst
    return Check(
        name="families",
        value=mean,
        low=low,
        passed=mean >= low,
        says=f"{family} moved by {mean:+.3f} against the base (allowed: {low:.3f})",
    )


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


def _by_family(
    suite: Suite, base: EvalResult, trials: EvalResult
) -> dict[str, tuple[list[bool], list[bool]]]:
    found: dict[str, tuple[list[bool], list[bool]]] = defaultdict(lambda: ([], []))
    for task, old, new in zip(suite.tasks, base.right, trials.right, strict=True):
        found[task.family][0].append(old)
        found[task.family][1].append(new)
    return dict(found)


def _mean(values: Sequence[float] | Sequence[int] | Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0
