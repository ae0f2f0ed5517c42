"""Simulated people with tastes of their own, who judge any model's answers by thumbs.

A person weighs the features of a text (taste.py), for each topic in their own way; most share the
topic's majority taste, and what people like in one topic resembles what they like in the next. The
features are taken on the scale of the base model's own answers to the topic, so nobody's taste is out of
its reach or met from the start. The chance of a thumbs-up is known without noise; the vote itself is
sometimes the wrong button.

Left out: people whose taste depends on what an answer says, and people who mean harm.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from burnish.ops.bench.lib.taste import FEATURES, features_of

Taste = tuple[float, ...]
"""A weight for each of FEATURES; their squares sum to 1."""

DECIDED = 2.0  # log-odds that an answer gains when it is a standard deviation more to one's taste
FAR = 2.0  # standard deviations at which more of a feature no longer matters
LEAST_SPREAD = 0.15  # of a feature that the base's answers to a topic hardly vary in
IN_COMMON = 0.5  # of the variance of a topic's taste that all topics share


@dataclass(frozen=True)
class Scale:
    """Of the features of the base's answers to one topic: mean and standard deviation."""

    centre: tuple[float, ...]
    spread: tuple[float, ...]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        columns = list(zip(*map(features_of, texts), strict=True))
        centre = [sum(column) / len(column) for column in columns]
        spread = [
            math.sqrt(sum((value - mean) ** 2 for value in column) / len(column))
            for column, mean in zip(columns, centre, strict=True)
        ]
        return cls(tuple(centre), tuple(max(LEAST_SPREAD, each) for each in spread))

    def agreement(self, taste: Taste, text: str) -> float:
        """How much a text is to a taste, in standard deviations of the base's answers."""
        return sum(
            weight * max(-FAR, min(FAR, (value - mean) / spread))
            for weight, value, mean, spread in zip(
                taste, _features_of(text), self.centre, self.spread, strict=True
            )
        )


@dataclass(frozen=True)
class Topic:
    """What people make of answers about one topic. `threshold` is the agreement at which a person is
    undecided: where the base pleases the majority half of the time."""

    scale: Scale
    majority: Taste
    threshold: float

    def liked(self, text: str, taste: Taste | None = None) -> float:
        """The chance that people of a taste, else of the majority's, mean thumbs up."""
        agreement = self.scale.agreement(taste or self.majority, text)
        return _logistic(DECIDED * (agreement - self.threshold))


@dataclass(frozen=True)
class Person:
    id: str
    tastes: Mapping[str, Taste]  # by topic


@dataclass(frozen=True)
class People:
    """`flip` is the share of votes on the wrong button."""

    everyone: tuple[Person, ...]
    topics: Mapping[str, Topic]
    flip: float

    def liked(self, topic: str, text: str) -> float:
        """The expected share of thumbs up among people of the topic's majority taste, without noise."""
        return self.topics[topic].liked(text)

    def vote(self, person: Person, topic: str, text: str, rng: random.Random) -> bool:
        """Thumbs up or down, as this person happens to give it."""
        means_up = rng.random() < self.topics[topic].liked(text, person.tastes[topic])
        return means_up != (rng.random() < self.flip)


def draw_people(
    answers: Mapping[str, Sequence[str]],
    *,
    people: int = 50,
    deviate: float = 0.15,
    flip: float = 0.2,
    seed: int = 0,
) -> People:
    """Draw people; `answers` are the base's own, by topic. A person deviates in a topic with the chance
    `deviate`: then their taste there is drawn anew."""
    rng = random.Random(f"people:{seed}")
    general = _gaussian(rng)
    majority = {topic: _taste(rng, general) for topic in answers}
    everyone = tuple(
        Person(
            id=f"person-{number:03d}",
            tastes={
                topic: _taste(rng, _gaussian(rng)) if rng.random() < deviate else taste
                for topic, taste in majority.items()
            },
        )
        for number in range(people)
    )
    topics = {topic: topic_of(texts, majority[topic]) for topic, texts in answers.items()}
    return People(everyone, topics, flip)


def topic_of(texts: Sequence[str], taste: Taste) -> Topic:
    """A topic whose majority has this taste; it likes half of the base's answers `texts`."""
    scale = Scale.of(texts)
    agreements = [scale.agreement(taste, text) for text in texts]
    low, high = min(agreements), max(agreements)
    for _ in range(50):  # halvings: the share liked falls as the threshold rises
        threshold = (low + high) / 2
        liked = sum(_logistic(DECIDED * (each - threshold)) for each in agreements)
        low, high = (threshold, high) if liked > len(texts) / 2 else (low, threshold)
    return Topic(scale, taste, (low + high) / 2)


def single_taste(feature: str, sign: float) -> Taste:
    """The taste of someone who minds one feature only."""
    return tuple(sign if name == feature else 0.0 for name in FEATURES)


def _taste(rng: random.Random, general: Sequence[float]) -> Taste:
    """A taste that resembles a `general` one."""
    mixed = [
        math.sqrt(IN_COMMON) * shared + math.sqrt(1 - IN_COMMON) * own
        for shared, own in zip(general, _gaussian(rng), strict=True)
    ]
    length = math.hypot(*mixed)
    return tuple(each / length for each in mixed)


def _gaussian(rng: random.Random) -> list[float]:
    return [rng.gauss() for _ in FEATURES]


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


_features_of = lru_cache(maxsize=1 << 16)(features_of)  # every text is judged under many tastes
