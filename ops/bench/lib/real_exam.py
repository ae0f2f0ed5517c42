"""What people would make of a version: its answers to held-out prompts, beside the base's best of 16.

Everything is by the majority taste's expected rate, without the noise of votes. The way is the share of
the distance from the base's answers to the best of 16 of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from burnish.learner.gate.checks import mean
from burnish.learner.gate.manner import kl_to_base
from burnish.ops.bench.lib.choosing import chosen, features_of, flattened
from burnish.ops.bench.lib.learning_loop import Answer, LearningLoop
from burnish.ops.bench.lib.people import People, single_taste, topic_of
from burnish.ops.bench.lib.taste import FEATURES
from burnish.ops.simulate.statistics import bootstrap, gap_recovered
from burnish.serving.reward.reward_model import RewardModel
from torch import Tensor

SEED = 1 << 20  # of the answers at the exam, far from those that are voted on


@dataclass(frozen=True)
class Result:
    """Of one version: `liked` is the expected rate of an answer; lengths are in tokens and words.

    With a reward model, `best_way` is the way of what serving would choose among `samples` answers, and
    `reward_way` that of what it would choose among the base's 16: what votes do without any training.
    """

    liked: float
    way: float
    way_interval: tuple[float, float]
    samples: int
    best_way: float | None
    reward_way: float | None
    kl: float
    tokens: float
    words: float
    finished: float


class Exam:
    """Held-out prompts with the base's answers [prompts][16], and what the majority makes of them."""

    def __init__(
        self, loop: LearningLoop, people: People, base: Sequence[Sequence[Answer]], max_tokens: int
    ) -> None:
        self.loop, self.people, self.max_tokens = loop, people, max_tokens
        self.base_answers = base
        self.prompts = [given[0].prompt for given in base]
        self.base_rates = self._rates(base)
        self.base, self.oracle = self.base_rates.mean(1), self.base_rates.max(1)

    def way(self, liked: float) -> float:
        return float((liked - self.base.mean()) / (self.oracle.mean() - self.base.mean()))

    def take(
        self, adapter: str, samples: int, rule_state: Mapping[str, Any] | None = None
    ) -> Result:
        """Examine a version by `samples` answers to each prompt, and the reward model in its rule's
        state, if there is one."""
        model = self.loop.learner.model
        given = self.loop.answer(
            self.prompts, samples=samples, max_tokens=self.max_tokens, seed=SEED, adapter=adapter
        )
        rates, answers = self._rates(given), flattened(given)
        reward = RewardModel.load(rule_state or {})
        return Result(
            liked=float(rates.mean()),
            way=self.way(rates.mean()),
            way_interval=bootstrap([self.base, rates.mean(1), self.oracle], gap_recovered),
            samples=samples,
            best_way=reward and self._chosen_way(reward, given, features_of(model, given), rates),
            reward_way=reward
            and self._chosen_way(reward, self.base_answers, self.base_features, self.base_rates),
            kl=kl_to_base(model, [answer.rollout for answer in answers]),
            tokens=mean([len(answer.rollout.token_ids) for answer in answers]),
            words=mean([len(answer.text.split()) for answer in answers]),
            finished=mean([answer.finish_reason == "stop" for answer in answers]),
        )

    @cached_property
    def base_features(self) -> Tensor:
        return features_of(self.loop.learner.model, self.base_answers)

    def _rates(self, given: Sequence[Sequence[Answer]]) -> np.ndarray:
        """Expected rates [prompts, samples]."""
        liked = self.people.liked
        return np.array([[liked(a.prompt.family, a.text) for a in answers] for answers in given])

    def _chosen_way(
        self,
        reward: RewardModel,
        given: Sequence[Sequence[Answer]],
        features: Tensor,
        rates: np.ndarray,
    ) -> float:
        """The way of the answers that serving would choose, one for each prompt."""
        per_prompt = features.split([len(answers) for answers in given])
        places = [
            chosen(reward, answers, of_answers, SEED + number)
            for number, (answers, of_answers) in enumerate(zip(given, per_prompt, strict=True))
        ]
        return self.way(rates[np.arange(len(rates)), places].mean())


def headroom(base: Mapping[str, Sequence[Sequence[Answer]]]) -> dict[str, dict[str, float]]:
    """For people who mind one feature only: the expected rate of the best of each prompt's base answers,
    where they like more of it and where they like less. By topic, the base itself is at one half."""
    found: dict[str, dict[str, float]] = {}
    for feature in FEATURES:
        found[feature] = {}
        for word, sign in (("more", 1.0), ("less", -1.0)):
            best = []
            for answers in base.values():
                texts = [answer.text for answer in flattened(answers)]
                topic = topic_of(texts, single_taste(feature, sign))
                best += [max(topic.liked(answer.text) for answer in given) for given in answers]
            found[feature][word] = sum(best) / len(best)
    return found
