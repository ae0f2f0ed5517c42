"""The gate's suite: held-out tasks, fixed for each base model, and what a policy does on them.

One seed per task, so that base and candidate sample with common random numbers and are compared task
by task. The base's own answers are drawn once and kept on disk; they are graded anew at each start, since a
pack's checkers may change.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from random import Random

from burnish.kernels.model import LoadedModel
from burnish.learner.tasks import CheckFailed, Task, TaskSource
from burnish.learner.training.prompts import fitting, task_prompt
from burnish.learner.training.rollouts import Rollout, Sampler, generate
from burnish.serving.engine import Request, SamplingParams
from pydantic import BaseModel

DIVERSITY_TOKENS = 24  # first tokens of each answer that count, so that its length does not


class Answers(BaseModel):
    """What one policy answered to the suite: per task the text and its length in tokens; over all
    answers the entropy in nats per token and the share of distinct bigrams."""

    texts: list[str]
    lengths: list[int]
    entropy: float
    diversity: float


@dataclass(frozen=True)
class EvalResult:
    """Answers, and per task whether each is right; None where its checker gave no verdict."""

    answers: Answers
    right: Sequence[bool | None]


class Suite:
    """Held-out tasks of each family, `per_family` where there are as many; the same ones for ever for
    one base model and one set of packs."""

    def __init__(
        self, model: LoadedModel, source: TaskSource, per_family: int, max_tokens: int
    ) -> None:
        self.model, self.source = model, source
        self.max_tokens = max_tokens
        self.tasks: list[Task] = []
        for family in source.families:
            drawn = source.draw(Random(f"{model.sha256}/{family}"), family, "heldout")
            self.tasks += islice(fitting(model, source, drawn, max_tokens), per_family)
        keys = [task.key for task in self.tasks]
        identity = json.dumps(["answers", keys, max_tokens])
        self.digest = hashlib.sha256(identity.encode()).hexdigest()[:16]

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

    def answers(self, rollouts: Sequence[Rollout]) -> Answers:
        """One rollout per task, in the order of `tasks`."""
        return Answers(
            texts=[rollout.text for rollout in rollouts],
            lengths=[len(rollout.token_ids) for rollout in rollouts],
            entropy=-mean([p for rollout in rollouts for p in rollout.logprobs]),
            diversity=distinct_bigrams([r.token_ids[:DIVERSITY_TOKENS] for r in rollouts]),
        )

    def grade(self, answers: Answers) -> EvalResult:
        pairs = zip(self.tasks, answers.texts, strict=True)
        return EvalResult(answers, [self._verdict(task, text) for task, text in pairs])

    def _verdict(self, task: Task, text: str) -> bool | None:
        try:
            return task.is_correct(text)
        except CheckFailed as error:
            self.source.note(str(error))
            return None

    def base_result(self, sampler: Sampler, folder: Path) -> EvalResult:
        """The base's own result; its answers are drawn the first time, then read from `folder`."""
        file = folder / f"{self.model.sha256[:16]}-{self.digest}.json"
        if file.exists():
            return self.grade(Answers.model_validate_json(file.read_text()))
        answers = self.answers(self.rollouts(sampler, None))
        folder.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(answers.model_dump_json())
        draft.rename(file)
        return self.grade(answers)

    def by_family(
        self, base: EvalResult, candidate: EvalResult, left_out: Collection[str] = ()
    ) -> dict[str, tuple[list[bool], list[bool]]]:
        """Per family, which of its tasks base and candidate got right, of those with two verdicts."""
        found: dict[str, tuple[list[bool], list[bool]]] = {}
        for task, old, new in zip(self.tasks, base.right, candidate.right, strict=True):
            if old is None or new is None or task.family in left_out:
                continue
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
