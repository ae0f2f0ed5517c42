"""What a report is made from: votes, answers and updates of one policy, as plain rows.

A vote is what one person thinks of one answer, by thumbs or score: the last of the two that stands.
Corrections, comments and signals are no votes; what a signal is worth is told beside them. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from burnish.learner.reward.quarantine import Held
from burnish.learner.reward.signals import SignalWorth

Key = tuple[str, int]  # interaction id, choice


@dataclass(frozen=True, kw_only=True)
class Vote:
    """`value` in [0, 1], 1 is liked. `rater` tells people apart; where nobody is named it is the session
    or the interaction, and `named` is false. `share` is below 1 where a session was judged, `trust`
    in (0, 1] as an update would weigh it."""

    answer: Key
    version: int
    rater: str
    value: float
    time: float
    named: bool = True
    share: float = 1.0
    trust: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A judged answer. `tokens` is its length; `refuses` and `asks` are guesses from its text (style.py)."""

    key: Key
    version: int
    time: float
    tokens: int
    refuses: bool
    asks: bool


@dataclass(frozen=True, kw_only=True)
class Update:
    """An update that made a version, and its figures as in the tick's counts."""

    version: int
    counts: Mapping[str, Any]
    why_not: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """The latest judged answers of a policy, oldest first, with what belongs to them.

    `quarantined` votes are left out of `votes`; `held` says whose they are. `began` says since when a version may have served,
    `updates` are the latest, oldest first. `state` names what was read: the same where nothing is new.
    """

    policy: str
    at: float
    state: str = ""
    answers: Sequence[Answer] = ()
    votes: Sequence[Vote] = ()
    quarantined: int = 0
    held: Sequence[Held] = ()
    corrections: int = 0
    signals: Mapping[str, SignalWorth] = field(default_factory=dict)
    began: Mapping[int, float] = field(default_factory=dict)
    updates: Sequence[Update] = ()
    last_update: str | None = None
    features: Mapping[Key, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Bounds:
    """On fits of reward models: `answers` to each, `seconds` for all of them together."""

    answers: int
    seconds: float


TICK = Bounds(answers=1536, seconds=2.0)
ASKED = Bounds(answers=4096, seconds=90.0)
