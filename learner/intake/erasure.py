"""Erasure and retention: a person's data, or old data, taken out of the experience database.

Erased are interactions with their answers and features, and the judgements on them; for a person also
the judgements they gave elsewhere, whose answers are then joined anew. What stays is the lineage, which
holds ids only: it says which versions learnt from what is gone. Left out: the weights of those
versions (receipts.py, update/held.py), memory's stores, the spool and the stream.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from burnish.feedback.events import Event
from burnish.feedback.judgements import event_id_of
from burnish.feedback.stream.user_keys import pseudonym
from burnish.learner.database import take_turns
from burnish.learner.intake.joining import (
    interactions_of_sessions,
    judgements_of_sessions,
    refresh,
    slices,
)
from burnish.learner.intake.rows import without_nul
from burnish.learner.intake.unmatched import list_unmatched
from burnish.learner.tables import (
    ArmRow,
    CanaryObservationRow,
    CompletionRow,
    CreditRow,
    ErasureRow,
    ExperienceRow,
    FeatureRow,
    InteractionRow,
    JudgementRow,
    RetractionRow,
    UnmatchedRow,
    VersionEventRow,
)
from sqlalchemy import and_, delete, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

Key = tuple[str, str]  # tenant and id of a judgement

BATCH = 1000  # interactions that one transaction of retention deletes
_HANGING = {
    "completions": CompletionRow,
    "experience": ExperienceRow,
    "credits": CreditRow,
    "features": FeatureRow,
    "arms": ArmRow,
}


@dataclass
class Erased:
    """How much is gone, and which versions of which policy have learnt from it."""

    interactions: int = 0
    judgements: int = 0
    versions: dict[str, list[int]] = field(default_factory=dict)


def erase_user(session: Session, tenant: str, user: str, now: float) -> Erased:
    """Erase an end user, and keep out what they did until `now` (seconds since the epoch) if it
    arrives later."""
    user = without_nul(user)
    take_turns(session)
    session.merge(ErasureRow(tenant=tenant, person=pseudonym(tenant, user), until=now))
    interactions, given = _of_user(session, tenant, user)
    return _erase(session, interactions, given)


def count_user(session: Session, tenant: str, user: str) -> dict[str, int]:
    """How many rows of each kind `erase_user` would remove now; kinds without any are left out."""
    interactions, given = _of_user(session, tenant, user)
    judgements = _judgements(session, interactions, given)
    counted = {"interactions": len(interactions), "judgements": len(judgements)}
    for kind, table in _HANGING.items():
        counted[kind] = sum(
            session.scalar(select(func.count()).where(table.interaction_id.in_(part))) or 0
            for part in slices(interactions)
        )
    return {kind: number for kind, number in counted.items() if number}


def first_events(session: Session, tenant: str, user: str) -> dict[str, float]:
    """When an end user's first event was, by the policy that may have been trained with it since."""
    asked = (
        select(InteractionRow.policy, func.min(InteractionRow.time))
        .where(InteractionRow.tenant == tenant, InteractionRow.user == user)
        .group_by(InteractionRow.policy)
    )
    # A judgement of a session is one of all its answers.
    said = (
        select(InteractionRow.policy, func.min(JudgementRow.time))
        .join(
            InteractionRow,
            or_(
                InteractionRow.id == JudgementRow.interaction_id,
                and_(
                    InteractionRow.tenant == JudgementRow.tenant,
                    InteractionRow.session_id == JudgementRow.session_id,
                ),
            ),
        )
        .where(JudgementRow.tenant == tenant, JudgementRow.user == user)
        .group_by(InteractionRow.policy)
    )
    found: dict[str, float] = {}
    for query in (asked, said):
        for policy, time in session.execute(query):
            found[policy] = min(time, found.get(policy, time))
    return found


def expire(session: Session, before: float, limit: int = BATCH) -> int:
    """Erase the oldest interactions and judgements from before that time, up to `limit` of each;
    returns how many, 0 when none is left."""
    take_turns(session)
    old = select(InteractionRow.id).where(InteractionRow.time < before)
    interactions = session.scalars(old.order_by(InteractionRow.time).limit(limit)).all()
    given = select(JudgementRow.tenant, JudgementRow.id).where(JudgementRow.time < before)
    judgements = session.execute(given.order_by(JudgementRow.time).limit(limit)).all()
    erased = _erase(session, interactions, [(tenant, id) for tenant, id in judgements])
    return erased.interactions + erased.judgements


def of_erased_users(session: Session, events: Iterable[Event]) -> set[str]:
    """The `event_id`s of what people did before they were erased."""
    by_person: dict[Key, list[Event]] = defaultdict(list)
    for event in events:
        if event.user is not None:
            person = pseudonym(event.tenant, without_nul(event.user))
            by_person[event.tenant, person].append(event)
    found: set[str] = set()
    column = tuple_(ErasureRow.tenant, ErasureRow.person)
    for part in slices(sorted(by_person)):
        for row in session.scalars(select(ErasureRow).where(column.in_(part))):
            theirs = by_person[row.tenant, row.person]
            found.update(e.event_id for e in theirs if e.time.timestamp() <= row.until)
    return found


def delete_interactions(session: Session, ids: Collection[str]) -> None:
    """These interactions with everything that hangs on them, their judgements excepted."""
    for part in slices(sorted(ids)):
        _forget_subjects(session, part)
        for table in _HANGING.values():
            session.execute(delete(table).where(table.interaction_id.in_(part)))
        session.execute(delete(InteractionRow).where(InteractionRow.id.in_(part)))


def _forget_subjects(session: Session, ids: Sequence[str]) -> None:
    """What a canary saw of these stays, and is nobody's."""
    subjects = select(ArmRow.subject).where(ArmRow.interaction_id.in_(ids))
    session.execute(
        update(CanaryObservationRow)
        .where(CanaryObservationRow.subject.in_(subjects))
        .values(subject=None)
        .execution_options(synchronize_session=False)
    )


def _of_user(session: Session, tenant: str, user: str) -> tuple[Sequence[str], list[Key]]:
    """Their interactions, and the judgements they gave."""
    query = select(InteractionRow.id).where(
        InteractionRow.tenant == tenant, InteractionRow.user == user
    )
    given = select(JudgementRow.tenant, JudgementRow.id).where(
        JudgementRow.tenant == tenant, JudgementRow.user == user
    )
    interactions = session.scalars(query).all()
    return interactions, [(tenant, id) for tenant, id in session.execute(given)]


def _erase(session: Session, interactions: Sequence[str], given: Sequence[Key]) -> Erased:
    judgements = _judgements(session, interactions, given)
    versions = _learnt_from(session, judgements)
    left = _sessions_of(session, interactions)
    _delete_judgements(session, [(row.tenant, row.id) for row in judgements])
    delete_interactions(session, interactions)
    judged = {row.interaction_id for row in judgements if row.interaction_id is not None}
    sessions = {(row.tenant, row.session_id) for row in judgements if row.session_id is not None}
    touched = judged | interactions_of_sessions(session, sessions)
    refresh(session, touched - set(interactions))
    list_unmatched(session, judgements_of_sessions(session, left))
    return Erased(len(interactions), len(judgements), versions)


def _judgements(
    session: Session, interactions: Sequence[str], given: Sequence[Key]
) -> list[JudgementRow]:
    """Those on these interactions, and those of these keys."""
    found: dict[Key, JudgementRow] = {}
    column = tuple_(JudgementRow.tenant, JudgementRow.id)
    on = [JudgementRow.interaction_id.in_(part) for part in slices(interactions)]
    for condition in [*on, *(column.in_(part) for part in slices(given))]:
        rows = session.scalars(select(JudgementRow).where(condition))
        found.update({(row.tenant, row.id): row for row in rows})
    return list(found.values())


def _sessions_of(session: Session, interactions: Sequence[str]) -> set[Key]:
    """The (tenant, session) pairs of these: a judgement of one may be left without any answer."""
    found: set[Key] = set()
    for part in slices(interactions):
        query = select(InteractionRow.tenant, InteractionRow.session_id).where(
            InteractionRow.id.in_(part), InteractionRow.session_id.is_not(None)
        )
        found.update((tenant, key) for tenant, key in session.execute(query) if key)
    return found


def _learnt_from(session: Session, judgements: Iterable[JudgementRow]) -> dict[str, list[int]]:
    events = sorted(event_id_of(row.tenant, row.id, row.revision) for row in judgements)
    found: dict[str, set[int]] = defaultdict(set)
    for part in slices(events):
        query = select(VersionEventRow.policy, VersionEventRow.version).distinct()
        for policy, version in session.execute(query.where(VersionEventRow.event.in_(part))):
            found[policy].add(version)
    return {policy: sorted(versions) for policy, versions in found.items()}


def _delete_judgements(session: Session, keys: Sequence[Key]) -> None:
    for part in slices(sorted(keys)):
        for table, id in (
            (UnmatchedRow, UnmatchedRow.id),
            (RetractionRow, RetractionRow.feedback_id),
            (JudgementRow, JudgementRow.id),
        ):
            session.execute(delete(table).where(tuple_(table.tenant, id).in_(part)))
