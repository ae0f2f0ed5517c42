"""Event journal of one simulation, in memory: answers, votes, champion changes, failures.

Every figure of the report is computed from it; nothing here calls the service.
"""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from burnish.ops.simulate.statistics import Interval, kaplan_meier_quantile, mean_interval


@dataclass(frozen=True)
class ServedAnswer:
    """One answer shown to a user. `base` is the frozen base's answer to the same prompt, for the
    share of prompts that are also sent to the base."""

    at: float  # completion time, epoch seconds
    id: str
    user: str
    family: str
    version: int
    right: bool
    style: str | None
    expected: float  # noise-free P(thumbs-up) of this user
    honest: bool
    seconds: float
    thumb: bool | None = None  # as sent, noise included; None: not judged
    base: ServedAnswer | None = None


@dataclass(frozen=True)
class SentVote:
    """A thumb that the service acknowledged."""

    at: float
    feedback_id: str
    answer_id: str
    version: int
    up: bool
    honest: bool
    staleness: int  # champion version when sent minus the version that answered
    retracted: bool = False


@dataclass(frozen=True)
class Summary:
    """Figures of one version."""

    version: int
    answers: int
    judged: int
    observed: float
    expected: float
    expected_interval: Interval
    right: float
    pairs: int
    paired_expected: float  # on prompts the base answered too
    base_expected: float
    base_observed: float
    base_right: float
    staleness: float  # mean over votes on this version's answers


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return statistics.fmean(listed) if listed else float("nan")


@dataclass
class Journal:
    """Everything that one simulation observed."""

    answers: list[ServedAnswer] = field(default_factory=list)
    votes: dict[str, SentVote] = field(default_factory=dict)  # by feedback id
    champions: list[tuple[float, int]] = field(default_factory=list)  # (since, version)
    ticks: dict[str, dict] = field(default_factory=dict)  # the learner's, by id
    failures: list[str] = field(default_factory=list)
    refused: int = 0  # answered 429 with Retry-After, then retried

    @property
    def champion(self) -> int:
        return self.champions[-1][1] if self.champions else 1

    def observe_champion(self, at: float, version: int) -> None:
        if not self.champions or self.champions[-1][1] != version:
            self.champions.append((at, version))

    def retract(self, feedback_id: str) -> None:
        self.votes[feedback_id] = replace(self.votes[feedback_id], retracted=True)

    def summaries(self) -> list[Summary]:
        """One row per version that answered; answers to malicious users are left out."""
        answers: dict[int, list[ServedAnswer]] = defaultdict(list)
        for answer in self.answers:
            if answer.honest:
                answers[answer.version].append(answer)
        staleness: dict[int, list[int]] = defaultdict(list)
        for vote in self.votes.values():
            staleness[vote.version].append(vote.staleness)
        return [
            _summary(version, answers[version], staleness[version]) for version in sorted(answers)
        ]

    def cycle(self) -> dict[str, float | int | None]:
        """Number of promotions, and the duration of the learner's updates."""
        promotions = [at for at, _ in self.champions[1:]]
        gaps = [later - earlier for earlier, later in itertools.pairwise(promotions)]
        seconds = [
            float(tick["seconds"]) for tick in self.ticks.values() if tick.get("kind") == "update"
        ]
        return {
            "promotions": len(promotions),
            "median_seconds_between_promotions": statistics.median(gaps) if gaps else None,
            "update_ticks": len(seconds),
            "median_update_seconds": statistics.median(seconds) if seconds else None,
        }

    def staleness(self) -> dict[str, float | int | None]:
        values = sorted(vote.staleness for vote in self.votes.values())
        if not values:
            return {"votes": 0, "mean": None, "p90": None, "max": None}
        return {
            "votes": len(values),
            "mean": statistics.fmean(values),
            "p90": values[int(0.9 * (len(values) - 1))],
            "max": values[-1],
        }


def _summary(version: int, answers: list[ServedAnswer], staleness: list[int]) -> Summary:
    thumbs = [answer.thumb for answer in answers if answer.thumb is not None]
    pairs = [(answer, answer.base) for answer in answers if answer.base is not None]
    base_thumbs = [base.thumb for _, base in pairs if base.thumb is not None]
    expected, interval = mean_interval([answer.expected for answer in answers])
    return Summary(
        version=version,
        answers=len(answers),
        judged=len(thumbs),
        observed=_mean(thumbs),
        expected=expected,
        expected_interval=interval,
        right=_mean(answer.right for answer in answers),
        pairs=len(pairs),
        paired_expected=_mean(answer.expected for answer, _ in pairs),
        base_expected=_mean(base.expected for _, base in pairs),
        base_observed=_mean(base_thumbs),
        base_right=_mean(base.right for _, base in pairs),
        staleness=_mean(staleness),
    )


def cadence(journal: Journal, learnt: Mapping[int, frozenset[str]]) -> dict[str, object]:
    """Time from an accepted thumbs-down to the first answer by weights trained on it.

    Args:
        learnt: by version, the ids of all feedback in its weights, its ancestors' included.
    """
    first: dict[int, float] = {}
    for answer in journal.answers:
        first[answer.version] = min(answer.at, first.get(answer.version, answer.at))
    end = max((answer.at for answer in journal.answers), default=0.0)
    reached: dict[str, float] = {}
    for version, at in first.items():
        for feedback_id in learnt.get(version, frozenset()):
            reached[feedback_id] = min(at, reached.get(feedback_id, at))
    # Of several thumbs on one answer only the last counts, so only that one can be learnt.
    standing = {vote.answer_id: vote for vote in journal.votes.values()}
    waits, censored = [], []
    for vote in standing.values():
        if vote.up or vote.retracted:
            continue
        if vote.feedback_id in reached:
            waits.append(max(reached[vote.feedback_id] - vote.at, 0.0))
        else:
            censored.append(max(end - vote.at, 0.0))
    return {
        "thumbs_down": len(waits) + len(censored),
        "included": len(waits),
        "median_seconds": kaplan_meier_quantile(waits, censored, 0.5),
        "p90_seconds": kaplan_meier_quantile(waits, censored, 0.9),
        "median_seconds_of_included": statistics.median(waits) if waits else None,
    }
