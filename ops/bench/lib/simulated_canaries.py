"""Canaries on tosses of a coin: users who vote as two versions deserve, and the learner's own evidence and decisions.

Every vote is looked at. A user is in an arm with the probability that the share gives, and each votes once: what
somebody adds later would not be counted (learner/canary/evidence.py). Left out: the service, its database and its time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from burnish.learner.canary.decision import Action, decide
from burnish.learner.canary.evidence import ArmName, Evidence, Observation
from burnish.learner.canary.settings import CanarySettings

SIGNALS, GOOD = 0.2, 0.7  # of users who give a signal; of signals that are good
TOKENS, SPREAD = 40.0, 0.7  # median length of an answer; deviation of its logarithm
SECONDS_A_TOKEN, NOISE = 0.02, 0.4  # deviation of the logarithm of the pace


@dataclass(frozen=True)
class Rates:
    """Of thumbs up, by arm."""

    champion: float
    challenger: float


@dataclass(frozen=True)
class Outcome:
    """`votes`: of both arms, until it ended; `cast`: with those of users who were in neither."""

    action: Action
    votes: int
    cast: int
    share: float


def run_canary(settings: CanarySettings, rates: Rates, seed: int) -> Outcome:
    """One canary from its first vote to its end."""
    rng, evidence = Random(seed), Evidence(settings)
    share, votes, cast = settings.shares[0], 0, 0
    while True:
        cast += 1 + _others(rng, 2 * share)
        votes += 1
        arm: ArmName = "challenger" if rng.random() < 0.5 else "champion"
        for seen in user(rng, arm, rates):
            evidence.add(seen)
        decided = decide(settings, evidence, share=share, hours=0.0)
        if decided.action == "ramp":
            share = decided.share or share
        elif decided.action != "hold":
            return Outcome(decided.action, votes, cast, share)


def user(rng: Random, arm: ArmName, rates: Rates) -> list[Observation]:
    """What is seen of one user, all but the thumb alike in both arms."""
    rate = rates.challenger if arm == "challenger" else rates.champion
    tokens = TOKENS * math.exp(SPREAD * rng.gauss(0, 1))
    seconds = tokens * SECONDS_A_TOKEN * math.exp(NOISE * rng.gauss(0, 1))
    seen = [
        Observation("tokens", arm, tokens),
        Observation("seconds", arm, seconds),
        Observation("thumbs", arm, float(rng.random() < rate)),
    ]
    if rng.random() < SIGNALS:
        seen.append(Observation("signal", arm, float(rng.random() < GOOD)))
    return seen


def _others(rng: Random, counted: float) -> int:
    """Votes of users in neither arm before the next of one in an arm."""
    return 0 if counted >= 1 else int(math.log(1 - rng.random()) / math.log(1 - counted))
