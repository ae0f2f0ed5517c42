"""The gate's suite: held-out tasks, fixed for each base model, and what a policy does on them.

One seed per task, so that base and candidate sample with common random numbers and are compared task
by task. The base's own result is computed once and cached on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

from burnish.kernels.model import LoadedModel
from burnish.learner.tasks import FAMILIES, Task, is_correct, sample
from burnish.learner.training.prompts import fits, task_prompt
from burnish.learner.training.rollouts import Rollout, Sampler, generate
from burnish.serving.engine import Request, SamplingParams
from pydantic import BaseModel

DIVERSITY_TOKENS = 24  # first tokens of each answer that count, so that its length does not


class EvalResult(BaseModel):
    """What one policy did on the suite: per task whether right and the answer's length in tokens;
    over all answers the entropy in nats per token and the share of distinct bigrams."""

    right: list[bool]
    lengths: list[int]
    entropy: float
    diversity: float

    @property
    def skill(self) -> float:
        """Share of tasks right."""
        return mean(self.right)


class Suite:
    """`per_family` held-out tasks of each family, the same ones for ever for one base model."""

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
        keys = [task.key for task in self.tasks]
        self.digest = hashlib.sha256(json.dumps([keys, max_tokens]).encode()).hexdigest()[:16]

    def rollouts(self, sampler: Sampler, adapter: str | None) -> list[Rollout]:
        """One answer to each task at temperature 1, with the task's fixed seed."""
        return generate(
            sampler,
            [
                Request(
                    id=f"gate-{number}",
                    prompt_ids=task_prompt(self.model, task),
                    params=SamplingParams(max_tokens=self.max_tokens, seed=number),
                    adapter=adapter,
                )
                for number, task in enumerate(self.tasks)
            ],
        )

    def grade(self, rollouts: Sequence[Rollout]) -> EvalResult:
        """The result of one rollout per task, in the order of `tasks`."""
        pairs = zip(self.tasks, rollouts, strict=True)
        return EvalResult(
            right=[is_correct(task, rollout.text) for task, rollout in pairs],
            lengths=[len(rollout.token_ids) for rollout in rollouts],
            entropy=-mean([p for rollout in rollouts for p in rollout.logprobs]),
            diversity=distinct_bigrams([r.token_ids[:DIVERSITY_TOKENS] for r in rollouts]),
        )

    def base_result(self, sampler: Sampler, folder: Path) -> EvalResult:
        """The base's own result: computed the first time, then read from `folder`."""
        file = folder / f"{self.model.sha256[:16]}-{self.digest}.json"
        if file.exists():
            return EvalResult.model_validate_json(file.read_text())
        result = self.grade(self.rollouts(sampler, None))
        folder.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(result.model_dump_json())
        draft.rename(file)
        return result

    def by_family(
        self, base: EvalResult, candidate: EvalResult
    ) -> dict[str, tuple[list[bool], list[bool]]]:
        """Per family, which of its tasks base and candidate got right."""
        found: dict[str, tuple[list[bool], list[bool]]] = {}
        for task, old, new in zip(self.tasks, base.right, candidate.right, strict=True):
            of_base, of_candidate = found.setdefault(task.family, ([], []))
            of_base.append(old)
            of_candidate.append(new)
        return found


def distinct_bigrams(answers: Sequence[Sequence[int]]) -> float:
    """Share of token bigrams that are distinct (distinct-2, Li et al. 2016); 0 when there are none."""
    bigrams = [pair for tokens in answers for pair in pairwise(tokens)]
    return len(set(bigrams)) / max(len(bigrams), 1)


def mean(values: Sequence[float] | Sequence[int] | Sequence[bool]) -> float:
    """The arithmetic mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0
