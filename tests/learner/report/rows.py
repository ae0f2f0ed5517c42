"""Votes as a report reads them, drawn from people whose taste is known."""

from __future__ import annotations

from random import Random

import numpy as np
from burnish.learner.report.data import Answer, Key, ReportData, Update, Vote
from burnish.serving.reward.features import MANNER

SIZE = 12  # of a feature vector: prompt, answer, last token
GAP = 1000.0  # seconds from one version's first answer to the next one's


def answer(key: Key, version: int = 1, **changes) -> Answer:
    fields = {"time": version * GAP, "tokens": 10, "refuses": False, "asks": False}
    return Answer(**{"key": key, "version": version, **fields, **changes})


def vote(key: Key, value: float = 1.0, version: int = 1, **changes) -> Vote:
    fields = {"rater": "local/user/ann", "time": version * GAP + 1}
    return Vote(**{"answer": key, "value": value, "version": version, **fields, **changes})


def key(version: int, number: int) -> Key:
    return f"chatcmpl-{version}-{number:05}", 0


def voted(likes: dict[int, tuple[int, int]], people: int = 20, **changes) -> ReportData:
    """Votes without features: by version how many likes, of how many votes."""
    answers, votes = [], []
    for version, (liked, count) in likes.items():
        for number in range(count):
            answers.append(answer(key(version, number), version))
            given = vote(key(version, number), float(number < liked), version)
            votes.append(Vote(**{**vars(given), "rater": f"local/user/{number % people}"}))
    began = {version: version * GAP for version in likes}
    return ReportData(
        policy="default", at=9e4, answers=answers, votes=votes, began=began, **changes
    )


def judged(
    counts: dict[int, int],
    *,
    taste: float,
    people: int = 20,
    seed: int = 0,
    shown: dict[int, float] | None = None,
    believed: dict[int, float] | None = None,
    **changes,
) -> ReportData:
    """Votes with features. Answers are plain or fancy, which their features show; a fancy one is liked
    with a chance of .5 + `taste`, a plain one of .5 - `taste`.

    `shown` is by version the share of fancy answers (.5); `believed` replaces the chance that a version's
    fancy answers are liked: what the others taught of them is wrong.
    """
    rng, noise = Random(seed), np.random.default_rng(seed)
    answers, votes, features = [], [], {}
    for version, count in counts.items():
        for number in range(count):
            fancy = rng.random() < (shown or {}).get(version, 0.5)
            chance = 0.5 + taste if fancy else 0.5 - taste
            if fancy and believed and version in believed:
                chance = believed[version]
            place = key(version, number)
            at = version * GAP + number / 10
            answers.append(answer(place, version, time=at))
            votes.append(
                vote(
                    place,
                    float(rng.random() < chance),
                    version,
                    time=at + 1,
                    rater=f"local/user/{rng.randrange(people)}",
                )
            )
            vector = noise.normal(size=SIZE)
            vector[SIZE // 3 :] += 2.0 if fancy else -2.0
            features[place] = np.append(vector, np.zeros(MANNER)).astype(np.float16)
    fields = {"began": {version: version * GAP for version in counts}, "features": features}
    return ReportData(
        policy="default", at=9e4, answers=answers, votes=votes, **{**fields, **changes}
    )


def update(version: int, passed: bool = True, **counts) -> Update:
    figures = {"gate_passed": passed, "gate_skill": 0.8, "gate_base_skill": 0.78, "kl": 0.02}
    return Update(
        version=version,
        counts={"version": version, "tasks": 40, **figures, **counts},
        why_not=None if passed else "gate: kl is 0.600 (allowed: ..0.5)",
    )
