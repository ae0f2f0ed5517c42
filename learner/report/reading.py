"""Reads a report's rows from the experience database: the latest judged answers, as many as an update
learns from, with what hangs on them. Nothing is written, and no table is read from end to end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from burnish.feedback.judgements import Judgement
from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.weighing import weigh
from burnish.learner.intake.joining import slices, standing_judgements
from burnish.learner.report.data import Answer, Key, ReportData, Update, Vote
from burnish.learner.report.style import asks, refuses
from burnish.learner.reward import experience
from burnish.learner.reward.quarantine import Held, with_released
from burnish.learner.reward.quarantine import held as held_among
from burnish.learner.reward.signals import explicit_rewards, signal_worths
from burnish.learner.tables import (
    FEATURES,
    AttemptRow,
    CompletionRow,
    ExperienceRow,
    FeatureRow,
    InteractionRow,
    TickRow,
)
from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

VOTES = ("thumbs", "score")
UPDATES = 500  # versions whose updates are looked up


class _Row(NamedTuple):
    """Of a judged answer what the report needs."""

    interaction_id: str
    choice: int
    version: int
    tenant: str
    user: str | None
    session_id: str | None
    time: float
    tokens: int
    text: str

    @property
    def key(self) -> Key:
        return self.interaction_id, self.choice


def state_of(session: Session, policy: str) -> str:
    """The same as long as no judgement has begun to count and no update has gone on."""
    attempt = session.execute(
        select(AttemptRow.id, AttemptRow.state)
        .where(AttemptRow.policy == policy)
        .order_by(AttemptRow.started_at.desc())
        .limit(1)
    ).first()
    newest = experience.high_water(session, policy)
    return "/".join([str(newest), *(attempt or ())])


def last_update(session: Session, policy: str) -> str | None:
    """What the last tick did, or why it trained nothing."""
    row = session.scalars(
        select(TickRow)
        .where(TickRow.kind == "update", TickRow.policy == policy)
        .order_by(TickRow.at.desc())
        .limit(1)
    ).first()
    return None if row is None else row.did + (f": {row.why_not}" if row.why_not else "")


def read(session: Session, policy: str, *, at: float, limit: int, trust: TrustPolicy) -> ReportData:
    """The latest `limit` judged answers of a policy, and its updates."""
    rows = _rows(session, policy, limit)
    standing = standing_judgements(session, [row.key for row in rows])
    trust = with_released(session, trust, (j for judged in standing.values() for j in judged))
    votes, quarantined, held = _votes(rows, standing, trust)
    given = [standing[row.key] for row in rows]
    return ReportData(
        policy=policy,
        at=at,
        state=state_of(session, policy),
        answers=[
            Answer(
                key=row.key,
                version=row.version,
                time=row.time,
                tokens=row.tokens,
                refuses=refuses(row.text),
                asks=asks(row.text),
            )
            for row in rows
        ],
        votes=votes,
        quarantined=quarantined,
        held=held,
        corrections=sum(j.name == "correction" for judged in standing.values() for j in judged),
        signals=signal_worths(given, explicit_rewards(given, trust)),
        began=_began(session, policy, rows),
        updates=_updates(session, policy),
        last_update=last_update(session, policy),
        features=_features(session, [row.key for row in rows]),
    )


def _rows(session: Session, policy: str, limit: int) -> list[_Row]:
    latest = (
        select(
            ExperienceRow.interaction_id,
            ExperienceRow.choice,
            ExperienceRow.version,
            ExperienceRow.tenant,
            InteractionRow.user,
            InteractionRow.session_id,
            InteractionRow.time,
            func.json_array_length(CompletionRow.token_ids),
            CompletionRow.text,
        )
        .join(InteractionRow, InteractionRow.id == ExperienceRow.interaction_id)
        .join(
            CompletionRow,
            (CompletionRow.interaction_id == ExperienceRow.interaction_id)
            & (CompletionRow.choice == ExperienceRow.choice),
        )
        .where(ExperienceRow.policy == policy)
        .order_by(ExperienceRow.judged_at.desc(), ExperienceRow.interaction_id)
        .limit(limit)
    )
    return [_Row._make(row) for row in session.execute(latest)][::-1]


def _votes(
    rows: Sequence[_Row], standing: Mapping[Key, Sequence[Judgement]], trust: TrustPolicy
) -> tuple[list[Vote], int, list[Held]]:
    """One vote per person and answer, the last of thumbs and score; how many are in quarantine, and whose."""
    given: list[tuple[_Row, Judgement, str | None]] = []
    for row in rows:
        last: dict[str | None, Judgement] = {}
        for judgement in standing[row.key]:
            if judgement.name in VOTES:
                last[judgement.user or judgement.asker] = judgement  # oldest first: the last stays
        given += [(row, judgement, person) for person, judgement in last.items()]
    judgements = [judgement for _, judgement, _ in given]
    weights = weigh(judgements, policy=trust)
    votes = [
        _vote(row, judgement, person, weight)
        for (row, judgement, person), weight in zip(given, weights.weights, strict=True)
        if weight > 0
    ]
    return votes, weights.quarantined, held_among(judgements, weights)


def _vote(row: _Row, judgement: Judgement, person: str | None, trust: float) -> Vote:
    given = judgement.value
    value = float(given == "up") if judgement.name == "thumbs" else float(given)
    rater = ("user", person) if person is not None else ("of", row.session_id or row.interaction_id)
    return Vote(
        answer=row.key,
        version=row.version,
        rater="/".join((row.tenant, *rater)),
        value=value,
        time=judgement.time,
        named=person is not None,
        share=judgement.share,
        trust=trust,
    )


def _began(session: Session, policy: str, rows: Sequence[_Row]) -> dict[int, float]:
    """When each version may have begun to serve: with its first answer that is known of, or with the
    update that made it, whose training saw no later vote."""
    began: dict[int, float] = {}
    for row in rows:
        began[row.version] = min(row.time, began.get(row.version, row.time))
    query = select(AttemptRow.version, AttemptRow.started_at).where(AttemptRow.policy == policy)
    for version, started in session.execute(query):
        if version in began:
            began[version] = min(started, began[version])
    return began


def _updates(session: Session, policy: str) -> list[Update]:
    query = (
        select(AttemptRow.version, TickRow.counts, TickRow.why_not)
        .join(TickRow, TickRow.id == AttemptRow.id)
        .where(AttemptRow.policy == policy, AttemptRow.version.is_not(None))
        .order_by(AttemptRow.started_at.desc())
        .limit(UPDATES)
    )
    found: list[Any] = list(session.execute(query))
    return [Update(version=v, counts=counts, why_not=why) for v, counts, why in found][::-1]


def _features(session: Session, keys: Sequence[Key]) -> dict[Key, np.ndarray]:
    """Those of the base that most of the answers have features of."""
    found: dict[str, dict[Key, np.ndarray]] = {}
    column = tuple_(FeatureRow.interaction_id, FeatureRow.choice)
    for part in slices(keys):
        for row in session.execute(
            select(
                FeatureRow.base_sha256,
                FeatureRow.interaction_id,
                FeatureRow.choice,
                FeatureRow.vector,
            ).where(column.in_(part), FeatureRow.base_sha256.endswith(f"/{FEATURES}"))
        ):
            vector = np.frombuffer(row.vector, dtype=np.float16)
            found.setdefault(row.base_sha256, {})[row.interaction_id, row.choice] = vector
    counts = Counter({base: len(vectors) for base, vectors in found.items()})
    return found[counts.most_common(1)[0][0]] if counts else {}
