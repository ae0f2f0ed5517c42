"""The cheap figures: votes, style and gate per version, and the first version beside the latest.

Pure functions over `ReportData`. Versions are served one after another, so what people asked and who
they were may differ between them; only a canary compares two at the same time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from burnish.learner.report.data import Answer, ReportData, Update, Vote
from burnish.learner.report.figures import (
    Comparison,
    Rate,
    Report,
    SignalFigures,
    VersionFigures,
)

FLOOR = 30  # votes below which a version's share is not looked at
POOL = 250  # votes that the latest versions are pooled to
LATEST_UPDATES = 5  # among which refusals are counted


def survey(data: ReportData) -> Report:
    """The report without what a reward model says, and without words."""
    named = Counter(vote.rater for vote in data.votes if vote.named)
    latest = data.updates[-LATEST_UPDATES:]
    refused = [update for update in latest if update.counts.get("gate_passed") is False]
    newest: Mapping[str, Any] = data.updates[-1].counts if data.updates else {}
    versions = version_figures(data)
    return Report(
        policy=data.policy,
        at=data.at,
        state=data.state,
        answers=len(data.answers),
        votes=round(sum(vote.share for vote in data.votes), 3),
        people=len({vote.rater for vote in data.votes}),
        liked=liked(data.votes),
        busiest=max(named.values()) / len(data.votes) if named else 0.0,
        anonymous=_mean([not vote.named for vote in data.votes]),
        corrections=data.corrections,
        signals=signal_figures(data),
        preference_weight=newest.get("preference_weight"),
        followup_auroc=newest.get("followup_auroc"),
        followup_weight=newest.get("followup_weight"),
        teacher_gap=newest.get("teacher_gap") if newest.get("commented") else None,
        teacher_on=bool(newest.get("teacher_on")),
        quarantined=data.quarantined,
        updates=len(latest),
        refused=len(refused),
        refusal=refused[-1].why_not if refused else None,
        base_skill=newest.get("gate_base_skill"),
        tasks=newest.get("tasks"),
        rehearsal_skill=newest.get("skill"),
        last_update=data.last_update,
        versions=versions,
        comparison=compare(versions, data.votes),
    )


def signal_figures(data: ReportData) -> list[SignalFigures]:
    """Of every signal that was seen on answers that people judged as well."""
    return [
        SignalFigures(
            name=name,
            judged=round(signal.seen, 3),
            liked=signal.liked,
            otherwise=signal.otherwise,
            weight=signal.worth.weight,
        )
        for name, signal in data.signals.items()
        if signal.seen
    ]


def version_figures(data: ReportData) -> list[VersionFigures]:
    """Of every version that was judged or that a listed update made."""
    votes: dict[int, list[Vote]] = defaultdict(list)
    answers: dict[int, list[Answer]] = defaultdict(list)
    for vote in data.votes:
        votes[vote.version].append(vote)
    for answer in data.answers:
        answers[answer.version].append(answer)
    made = {update.version: update for update in data.updates}
    return [
        _figures(version, votes[version], answers[version], made.get(version), data)
        for version in sorted({*votes, *answers, *made})
    ]


def _figures(
    version: int,
    votes: Sequence[Vote],
    answers: Sequence[Answer],
    update: Update | None,
    data: ReportData,
) -> VersionFigures:
    counts: Mapping[str, Any] = update.counts if update else {}
    rate = liked(votes)
    return VersionFigures(
        version=version,
        liked=rate,
        enough=rate is not None and rate.count >= FLOOR,
        people=len({vote.rater for vote in votes}),
        answers=len(answers),
        without_features=sum(answer.key not in data.features for answer in answers),
        tokens=round(_mean([a.tokens for a in answers]), 2) if answers else None,
        refusals=Rate.of(sum(a.refuses for a in answers), len(answers)),
        questions=Rate.of(sum(a.asks for a in answers), len(answers)),
        gate_passed=counts.get("gate_passed"),
        skill=counts.get("gate_skill"),
        kl=counts.get("kl"),
    )


def liked(votes: Iterable[Vote]) -> Rate | None:
    """The share of likes among votes, each weighed by its share; a score counts as part of a like."""
    given = list(votes)
    return Rate.of(sum(v.share * v.value for v in given), sum(v.share for v in given))


def compare(versions: Sequence[VersionFigures], votes: Sequence[Vote]) -> Comparison | None:
    """The first version with enough votes beside the latest after it, pooled back until they have POOL
    votes. None where one of the two has too few."""
    first = next((v for v in versions if v.enough), None)
    if first is None or first.liked is None:
        return None
    pooled: list[int] = []
    count = 0.0
    for figures in reversed(versions):
        if figures.version == first.version or count >= POOL:
            break
        if figures.liked is not None:
            pooled.append(figures.version)
            count += figures.liked.count
    now = liked(vote for vote in votes if vote.version in pooled)
    if now is None or now.count < FLOOR:
        return None
    low, high = now.minus(first.liked)
    outcome = "more" if low > 0 else "less" if high < 0 else "no difference"
    return Comparison(
        first=first.version,
        latest=sorted(pooled),
        before=first.liked,
        now=now,
        low=low,
        high=high,
        outcome=outcome,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
