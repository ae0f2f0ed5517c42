"""What people would make of a version: its answers to held-out prompts, beside the base's best of 16.

Everything is by the majority taste's expected rate, without the noise of votes. The way is the share of
the distance from the base's answers to the best of 16 of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from burnish.learner.gate.checks import kl_to_base
from burnish.ops.bench.lib.everyday_prompts import Prompt
from burnish.ops.bench.lib.learning_loop import Answer, LearningLoop
from burnish.ops.bench.lib.people import People, single_taste, topic_of
from burnish.ops.bench.lib.taste import FEATURES
from burnish.ops.simulate.statistics import bootstrap, gap_recovered
from burnish.serving.reward.features import base_features
from burnish.serving.reward.reward_model import RewardModel

SEED = 1 << 20  # of the answers at the exam, far from those that are voted on


@dataclass(frozen=True)
class Result:
    """Of one version: `liked` is the expected rate of an answer, `best_liked` that of the one among
    `samples` which the version's reward model likes best; None where it has none. Lengths in tokens."""

    liked: float
    way: float
    way_interval: tuple[float, float]
    samples: int
    best_liked: float | None
    best_way: float | None
    kl: float
    tokens: float
    words: float
    finished: float


class Exam:
    """Held-out prompts with the base's answers [prompts][16], and what the majority makes of them."""

    def __init__(self, base: Sequence[Sequence[Answer]], people: People) -> None:
        self.prompts: list[Prompt] = [given[0].prompt for given in base]
        self.people = people
        rates = self._rates(base)
        self.base, self.oracle = rates.mean(1), rates.max(1)

    def way(self, liked: float) -> float:
        return (liked - self.base.mean()) / (self.oracle.mean() - self.base.mean())

    def take(
        self,
        loop: LearningLoop,
        adapter: str,
        *,
        samples: int,
        max_tokens: int,
        rule_state: Mapping[str, Any] | None = None,
    ) -> Result:
        """Examine a version by `samples` answers to each prompt."""
        given = loop.answer(
            self.prompts, samples=samples, max_tokens=max_tokens, seed=SEED, adapter=adapter
        )
        rates = self._rates(given)
        rollouts = [answer.rollout for answers in given for answer in answers]
        scores = _scores(loop, rule_state or {}, given)
        best = (
            None if scores is None else float(rates[np.arange(len(given)), scores.argmax(1)].mean())
        )
        flat = [answer for answers in given for answer in answers]
        return Result(
            liked=float(rates.mean()),
            way=float(self.way(rates.mean())),
            way_interval=bootstrap([self.base, rates.mean(1), self.oracle], gap_recovered),
            samples=samples,
            best_liked=best,
            best_way=None if best is None else float(self.way(best)),
            kl=kl_to_base(loop.learner.model, rollouts),
            tokens=float(np.mean([len(rollout.token_ids) for rollout in rollouts])),
            words=float(np.mean([len(answer.text.split()) for answer in flat])),
            finished=float(np.mean([answer.finish_reason == "stop" for answer in flat])),
        )

    def _rates(self, given: Sequence[Sequence[Answer]]) -> np.ndarray:
        """Expected rates [prompts, samples]."""
        liked = self.people.liked
        return np.array([[liked(a.prompt.family, a.text) for a in answers] for answers in given])


def headroom(base: Mapping[str, Sequence[Sequence[Answer]]]) -> dict[str, dict[str, float]]:
    """For people who mind one feature only: the expected rate of the best of each prompt's base answers,
    where they like more of it and where they like less. By topic, the base itself is at one half."""
    found: dict[str, dict[str, float]] = {}
    for feature in FEATURES:
        found[feature] = {}
        for word, sign in (("more", 1.0), ("less", -1.0)):
            best = []
            for answers in base.values():
                texts = [answer.text for given in answers for answer in given]
                topic = topic_of(texts, single_taste(feature, sign))
                best += [max(topic.liked(answer.text) for answer in given) for given in answers]
            found[feature][word] = sum(best) / len(best)
    return found


def _scores(
    loop: LearningLoop, rule_state: Mapping[str, Any], given: Sequence[Sequence[Answer]]
) -> np.ndarray | None:
    """What a rule's reward model expects of each answer, [prompts, samples]; None if it has none. An
    answer without a token comes last."""
    model = RewardModel.load(rule_state)
    if model is None:
        return None
    flat = [answer.rollout for answers in given for answer in answers]
    there = [number for number, rollout in enumerate(flat) if rollout.token_ids]
    scores = np.full(len(flat), -np.inf)
    asked = [(flat[number].prompt_ids, flat[number].token_ids) for number in there]
    scores[there] = model.mean(base_features(loop.learner.model, asked)).numpy()
    return scores.reshape(len(given), -1)
