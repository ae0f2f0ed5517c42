"""What a canary has seen of its users, from the experience database: written down once, in the order it counts.

An end user counts once for each metric, however often they come. Their first answer in the canary tells its length and
time, their first thumb and their first telling signal what they thought. Votes on somebody else's answers are left out,
and those taken back before they were counted. What was counted stays as it was: a test that may be looked at whenever
one likes must not have its past changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from burnish.learner.canary.evidence import ArmName, Metric, Observation
from burnish.learner.tables import (
    ArmRow,
    CanaryObservationRow,
    CanaryRow,
    CompletionRow,
    InteractionRow,
    JudgementRow,
    RetractionRow,
)
from sqlalchemy import and_, exists, func, or_, select, update
from sqlalchemy.orm import Session

MOST = 5000  # rows that one look reads of answers, and of judgements
SIGNALS = {"copied": 1.0, "regenerated": 0.0, "abandoned": 0.0}  # others may mean either
THUMBS = {"up": 1.0, "down": 0.0}


def observe(session: Session, canary: CanaryRow) -> int:
    """Write down what is new of the canary's users; how much that was. In a transaction of its own canary."""
    last = select(func.max(CanaryObservationRow.seq)).where(
        CanaryObservationRow.canary_id == canary.id
    )
    seq = first = (session.scalar(last) or 0) + 1
    seen: set[tuple[str, str]] = set()
    for metric, subject, arm, value in [*_answers(session, canary), *_judged(session, canary)]:
        if (metric, subject) in seen:
            continue
        seen.add((metric, subject))
        session.add(
            CanaryObservationRow(
                canary_id=canary.id, seq=seq, metric=metric, arm=arm, value=value, subject=subject
            )
        )
        seq += 1
    session.flush()
    return seq - first


def read(session: Session, canary_id: str, after: int = 0) -> Iterator[tuple[int, Observation]]:
    """What was written down since number `after`, in order."""
    query = (
        select(CanaryObservationRow)
        .where(CanaryObservationRow.canary_id == canary_id, CanaryObservationRow.seq > after)
        .order_by(CanaryObservationRow.seq)
    )
    for row in session.scalars(query):
        metric: Any = row.metric
        arm: Any = row.arm
        yield row.seq, Observation(metric, arm, row.value)


def forget_users(session: Session, canary_id: str) -> None:
    """Whose the observations of a canary were, once it has ended."""
    session.execute(
        update(CanaryObservationRow)
        .where(CanaryObservationRow.canary_id == canary_id)
        .values(subject=None)
        .execution_options(synchronize_session=False)
    )


Found = tuple[Metric, str, ArmName, float]


def _answers(session: Session, canary: CanaryRow) -> Iterator[Found]:
    """Length and time of the first answers of users who are new."""
    query = _of(
        canary, select(ArmRow.subject, ArmRow.name, ArmRow.seconds, CompletionRow.token_ids)
    ).join(
        CompletionRow,
        and_(CompletionRow.interaction_id == ArmRow.interaction_id, CompletionRow.choice == 0),
    )
    new = query.where(~_counted(canary, "tokens"), CompletionRow.finish_reason != "cancelled")
    found: Any = session.execute(new.order_by(InteractionRow.time, InteractionRow.id).limit(MOST))
    for subject, arm, seconds, token_ids in found:
        yield "tokens", subject, arm, float(len(token_ids))
        if seconds is not None:
            yield "seconds", subject, arm, seconds


def _judged(session: Session, canary: CanaryRow) -> Iterator[Found]:
    """The first thumbs and signals of users who had given none."""
    columns = select(ArmRow.subject, ArmRow.name, JudgementRow.value)
    query = (
        _of(canary, columns)
        .join(
            JudgementRow,
            and_(
                JudgementRow.interaction_id == ArmRow.interaction_id,
                JudgementRow.tenant == InteractionRow.tenant,
            ),
        )
        .outerjoin(
            RetractionRow,
            and_(
                RetractionRow.tenant == JudgementRow.tenant,
                RetractionRow.feedback_id == JudgementRow.id,
                RetractionRow.time >= JudgementRow.time,
            ),
        )
        .where(
            RetractionRow.time.is_(None),
            or_(
                JudgementRow.user.is_(None),
                InteractionRow.user.is_(None),
                JudgementRow.user == InteractionRow.user,
            ),
        )
    )
    kinds: tuple[tuple[Metric, dict[str, float]], ...] = (("thumbs", THUMBS), ("signal", SIGNALS))
    for metric, worth in kinds:
        new = query.where(JudgementRow.name == metric, ~_counted(canary, metric))
        found: Any = session.execute(new.order_by(JudgementRow.time, JudgementRow.id).limit(MOST))
        for subject, arm, value in found:
            if value in worth:
                yield metric, subject, arm, worth[value]


def _of(canary: CanaryRow, query: Any) -> Any:
    """Over the interactions of the canary's users; they are dated in whole seconds."""
    return query.join(InteractionRow, InteractionRow.id == ArmRow.interaction_id).where(
        ArmRow.policy == canary.policy,
        ArmRow.challenger == canary.version,
        InteractionRow.time >= int(canary.started_at),
    )


def _counted(canary: CanaryRow, metric: Metric) -> Any:
    return exists().where(
        CanaryObservationRow.canary_id == canary.id,
        CanaryObservationRow.metric == metric,
        CanaryObservationRow.subject == ArmRow.subject,
    )
