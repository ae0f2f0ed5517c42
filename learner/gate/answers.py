"""Answers to the gate's questions: the candidate's, the champion's and the base's, with the same seeds.

A question is a task and a seed, so that policies sample with common random numbers and are compared question
by question. The base never changes, so its answers are kept on disk; the others' as long as the trial lasts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from burnish.kernels.lora import AdapterWeights
from burnish.kernels.model import LoadedModel
from burnish.learner.tasks import Task
from burnish.learner.training.prompts import task_prompt
from burnish.learner.training.rollouts import Rollout, Sampler, generate
from burnish.serving.engine import Request, SamplingParams
from pydantic import BaseModel, TypeAdapter, ValidationError

CANDIDATE, CHAMPION, BASE = "candidate", "champion", "base"


@dataclass(frozen=True)
class Question:
    """A task, and the seed with which it is answered."""

    task: Task
    seed: int

    @property
    def key(self) -> str:
        told = hashlib.blake2b(self.task.key.encode(), digest_size=12).hexdigest()
        return f"{told}/{self.seed}"


class Answer(BaseModel, frozen=True):
    """What was answered; `logprobs` one per token."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


_ANSWERS = TypeAdapter(dict[str, Answer])


class BaseAnswers:
    """The base's answers of one model and length limit, kept in a folder."""

    def __init__(self, folder: Path, model_sha256: str, max_tokens: int) -> None:
        identity = json.dumps(["answers", 2, model_sha256, max_tokens])
        name = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self._file = folder / f"base-{name}.json"
        self.known: dict[str, Answer] = self._read()
        self._saved = len(self.known)

    def save(self) -> None:
        """Write, whole or not at all, if there is anything new."""
        if len(self.known) == self._saved:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(f".{os.getpid()}")
        draft.write_bytes(_ANSWERS.dump_json(self.known))
        draft.rename(self._file)
        self._saved = len(self.known)

    def _read(self) -> dict[str, Answer]:
        try:
            return _ANSWERS.validate_json(self._file.read_bytes())
        except (FileNotFoundError, ValidationError):  # of an older version: they are drawn again
            return {}


@dataclass
class Panel:
    """The policies of one trial, as they answer. `adapters` by policy; the base has none."""

    model: LoadedModel
    sampler: Sampler
    max_tokens: int
    base: BaseAnswers
    adapters: Mapping[str, AdapterWeights] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known = {policy: {} for policy in self.adapters} | {BASE: self.base.known}

    @property
    def references(self) -> list[str]:
        """With whom a candidate is compared: the champion, where it is not the base, and the base."""
        return [policy for policy in self._known if policy != CANDIDATE]

    @property
    def drawn(self) -> int:
        """How many answers were sampled for this trial, the base's aside."""
        return sum(len(self._known[policy]) for policy in self.adapters)

    @contextmanager
    def seated(self) -> Iterator[Panel]:
        """While this lasts they can be asked; then the base's new answers are kept."""
        seated: list[str] = []
        try:
            for policy, adapter in self.adapters.items():
                self.sampler.set_adapter_weights(_slot(policy), adapter)
                seated.append(policy)
            yield self
        finally:
            for policy in seated:
                self.sampler.unload_adapter(_slot(policy))
            self.base.save()

    def answers(self, questions: Sequence[Question]) -> dict[str, list[Answer]]:
        """Of every policy, one answer to each question, at temperature 1; those not yet known are drawn in
        one batch."""
        keys = [question.key for question in questions]
        missing = {
            (policy, key): question
            for policy, known in self._known.items()
            for key, question in zip(keys, questions, strict=True)
            if key not in known
        }
        drawn = self.draw([(policy, question) for (policy, _), question in missing.items()])
        for (policy, key), answer in zip(missing, drawn, strict=True):
            self._known[policy][key] = answer
        return {policy: [known[key] for key in keys] for policy, known in self._known.items()}

    def draw(self, wanted: Sequence[tuple[str, Question]]) -> list[Answer]:
        """One answer by each policy to its question."""
        requests = [
            Request(
                id=f"gate-{number}",
                prompt_ids=task_prompt(self.model, question.task),
                params=SamplingParams(max_tokens=self.max_tokens, seed=question.seed),
                adapter=_slot(policy) if policy in self.adapters else None,
            )
            for number, (policy, question) in enumerate(wanted)
        ]
        return [
            Answer(
                text=rollout.text,
                token_ids=rollout.token_ids,
                logprobs=tuple(round(p, 6) for p in rollout.logprobs),
            )
            for rollout in generate(self.sampler, requests)
        ]

    def answers_to(self, prompts: Sequence[tuple[int, ...]]) -> dict[str, list[Rollout]]:
        """Of every policy, one answer to each prompt, with the same seeds; nothing of it is kept."""
        wanted = [(policy, seed) for policy in self._known for seed in range(len(prompts))]
        requests = [
            Request(
                id=f"gate-logged-{number}",
                prompt_ids=prompts[seed],
                params=SamplingParams(max_tokens=self.max_tokens, seed=seed),
                adapter=_slot(policy) if policy in self.adapters else None,
            )
            for number, (policy, seed) in enumerate(wanted)
        ]
        drawn = iter(generate(self.sampler, requests))
        return {policy: [next(drawn) for _ in prompts] for policy in self._known}

    def rollouts(self, questions: Sequence[Question], answers: Sequence[Answer]) -> list[Rollout]:
        """Answers with their prompts."""
        return [
            Rollout(
                task_prompt(self.model, question.task),
                answer.token_ids,
                answer.logprobs,
                text=answer.text,
            )
            for question, answer in zip(questions, answers, strict=True)
        ]


def _slot(policy: str) -> str:
    return f"gate/{policy}"
