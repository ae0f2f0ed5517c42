"""Credit assignment: which of a session's turns a judgement of the whole session is about.

The tables share it equally. Here each turn takes the responsibility for it that the reward model gives:
the softmax over the turns of the verdict's log-likelihood under their P(liked). That is the step E of
expectation-maximisation in multiple-instance learning (Zhang and Goldman 2001, EM-DD); the next fit of the
reward model is the step M. So a dislike falls on the turn that is least liked elsewhere, and a like on
the best one. Left out: turns whose answers were not loaded; their part stays with them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from burnish.feedback.judgements import Judgement
from burnish.feedback.rewards import worth_of
from burnish.learner.reward.experience import JudgedAnswer

SUREST = 0.95  # P(liked) is taken to lie in [1 - SUREST, SUREST]: a model is never surer than that


def assigned(
    answers: Sequence[JudgedAnswer], expected: Sequence[float] | None
) -> list[JudgedAnswer]:
    """The answers, with the shares of session judgements as the reward model has them; without one, that
    is without `expected`, the reward in [-1, 1] of each answer, they stay equal."""
    if expected is None:
        return list(answers)
    likelihoods: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    given: dict[str, dict[str, float]] = defaultdict(dict)
    for answer, reward in zip(answers, expected, strict=True):
        for judgement in _of_sessions(answer):
            event, turn = judgement.event_id, answer.interaction_id
            likelihoods[event][turn].append(_log_likelihood(judgement, reward))
            given[event][turn] = judgement.share
    shares = {
        event: dict(
            zip(
                turns,
                responsibilities(
                    # The choices of one turn are its answer together.
                    [math.fsum(values) / len(values) for values in turns.values()],
                    list(given[event].values()),
                ),
                strict=True,
            )
        )
        for event, turns in likelihoods.items()
    }
    return [
        replace(
            answer,
            judgements=tuple(
                replace(judgement, share=shares[judgement.event_id][answer.interaction_id])
                if _shared(judgement)
                else judgement
                for judgement in answer.judgements
            ),
        )
        for answer in answers
    ]


def responsibilities(log_likelihoods: Sequence[float], given: Sequence[float]) -> list[float]:
    """What of the sum of the shares `given` falls to each turn: as much as its share times the likelihood."""
    likeliest = max(log_likelihoods)
    parts = [
        share * math.exp(value - likeliest)
        for share, value in zip(given, log_likelihoods, strict=True)
    ]
    scale = math.fsum(given) / math.fsum(parts)
    return [part * scale for part in parts]


def _of_sessions(answer: JudgedAnswer) -> list[Judgement]:
    return [judgement for judgement in answer.judgements if _shared(judgement)]


def _shared(judgement: Judgement) -> bool:
    return judgement.session_id is not None and worth_of(judgement) is not None


def _log_likelihood(judgement: Judgement, reward: float) -> float:
    """Of a verdict, which may be half a like, under the P(liked) of an answer of that expected reward."""
    worth = worth_of(judgement)
    verdict = 0.5 if worth is None else (1 + worth.value) / 2
    liked = min(SUREST, max(1 - SUREST, (1 + reward) / 2))
    return verdict * math.log(liked) + (1 - verdict) * math.log(1 - liked)
