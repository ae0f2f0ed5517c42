"""What is measured of answers: each as a series of numbers in [0, 1], with its band and its words.

A new measure is a function here and a line in MEASURES.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from burnish.learner.alarms.comparing import BATCH, Band
from burnish.learner.alarms.limits import AlarmLimits
from burnish.learner.alarms.reading import Answer

CAP = 4.0  # times the reference's mean, that a length or an entropy is cut to


@dataclass(frozen=True)
class Series:
    """Observations of a version and of those before it, oldest first, in [0, 1]; `times` of the version's in
    seconds since the epoch. People are shown (value - `zero`) times `scale`, and `what` with it."""

    times: Sequence[float]
    now: Sequence[float]
    before: Sequence[float]
    scale: float = 1.0
    zero: float = 0.0
    what: str = ""


Measure = Callable[[Sequence[Answer], Sequence[Answer]], Series]


@dataclass(frozen=True)
class Watched:
    """A measure, what of the limits bounds it, and the words for it."""

    measure: Measure
    band: Callable[[AlarmLimits], Band]
    what: str
    unit: str = "%"


def share(of: Callable[[Answer], bool | None]) -> Measure:
    """Of the answers where it can be told."""

    def measure(now: Sequence[Answer], before: Sequence[Answer]) -> Series:
        ours = [answer for answer in now if of(answer) is not None]
        theirs = [float(told) for answer in before if (told := of(answer)) is not None]
        return Series([a.time for a in ours], [float(bool(of(a))) for a in ours], theirs)

    return measure


def size(of: Callable[[Answer], float]) -> Measure:
    """As a part of CAP times the reference's mean; what is more counts as much."""

    def measure(now: Sequence[Answer], before: Sequence[Answer]) -> Series:
        theirs = [of(answer) for answer in before]
        scale = CAP * sum(theirs) / len(theirs) if theirs else 0.0
        scale = scale if scale > 0 else 1.0
        return Series(
            [answer.time for answer in now],
            [min(1.0, max(0.0, of(answer) / scale)) for answer in now],
            [min(1.0, max(0.0, value / scale)) for value in theirs],
            scale,
        )

    return measure


def openers(now: Sequence[Answer], before: Sequence[Answer]) -> Series:
    """Whether an answer begins with the phrase that the answers before it began with most often: which one is
    asked for never depends on what is counted."""
    ours = [answer.opener for answer in now]
    theirs = [answer.opener for answer in before]
    usual = _commonest(theirs)
    hits: list[float] = []
    phrase = usual
    for start in range(0, len(ours), BATCH):
        phrase = _commonest(ours[:start]) or usual
        hits += [float(o is not None and o == phrase) for o in ours[start : start + BATCH]]
    return Series(
        [answer.time for answer in now],
        hits,
        [float(o is not None and o == usual) for o in theirs],
        what=phrase or "",
    )


def _commonest(openers: Sequence[str | None]) -> str | None:
    found = Counter(opener for opener in openers if opener is not None)
    return found.most_common(1)[0][0] if found else None


MEASURES: Mapping[str, Watched] = {
    "tool_failures": Watched(
        share(lambda answer: answer.failed),
        lambda limits: Band(more=limits.tool_failures),
        "tool calls that fail",
    ),
    "questions": Watched(
        share(lambda answer: answer.asks),
        lambda limits: Band(more=limits.questions),
        "answers that ask back",
    ),
    "refusals": Watched(
        share(lambda answer: answer.refuses),
        lambda limits: Band(more=limits.refusals),
        "answers that refuse",
    ),
    "length": Watched(
        size(lambda answer: answer.tokens),
        lambda limits: Band(least=limits.length[0], most=limits.length[1]),
        "mean length of answers",
        "tokens",
    ),
    "entropy": Watched(
        size(lambda answer: answer.entropy),
        lambda limits: Band(least=limits.entropy),
        "mean entropy of answers",
        "nats per token",
    ),
    "opener": Watched(
        openers, lambda limits: Band(more=limits.opener), "answers that begin with one phrase"
    ),
}
