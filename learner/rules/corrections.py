"""Corrections as pairs: what somebody says an answer should have been, above what it was.

They are written in the model's tokens and end as the answer that they correct does. One that spells special
tokens is left out: nobody may teach the model to begin or to end a turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from burnish.feedback.trust.votes import Person
from burnish.kernels.model import LoadedModel
from burnish.learner.reward.experience import Experience
from burnish.learner.training.prompts import answer_tokens
from burnish.learner.training.rollouts import Rollout


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt; `weight` in (0, 1], `heard` and `person` as in `Correction`. `judged_at` in
    seconds since the epoch."""

    chosen: Rollout
    rejected: Rollout
    weight: float
    judged_at: float = 0.0
    heard: float = 1.0
    person: Person | None = None


def corrections(
    experience: Sequence[Experience], model: LoadedModel, max_tokens: int
) -> Iterator[Pair]:
    """Each correction of at most `max_tokens` against what it corrects, where the two differ."""
    special = frozenset(model.tokenizer.all_special_ids)
    for item in experience:
        last = item.token_ids[-1]
        end = last if last in model.eos_token_ids else None
        for correction in item.corrections:
            tokens = tuple(answer_tokens(model, correction.text, end))
            room = min(max_tokens, model.max_model_len - len(item.prompt_ids))
            if not correction.text.strip() or len(tokens) > room or tokens == item.token_ids:
                continue
            if special.isdisjoint(tokens[:-1]):
                yield Pair(
                    Rollout(item.prompt_ids, tokens, (), imitated=True),
                    Rollout(item.prompt_ids, item.token_ids, item.logprobs),
                    correction.weight,
                    item.judged_at,
                    correction.heard,
                    correction.person,
                )
