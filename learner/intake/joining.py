"""Joining: which judgements stand on which answer, and what that makes it worth.

`refresh` keeps the experience table a pure function of what has arrived, in whatever order it
arrived: for every touched answer it takes the latest word of each person under each name, drops
what was retracted, and asks the feedback room what that is worth. Attribution inside long sessions
is left simple: a judgement of a session counts, at an equal share, for each of its answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from burnish.feedback.events import FeedbackEvent
from burnish.feedback.rewards import reward_of
from burnish.learner.database import (
    CompletionRow,
    CreditRow,
    ExperienceRow,
    InteractionRow,
    JudgementRow,
    RetractionRow,
    next_seq,
)
from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

# Rows per statement: far below the parameter limits of either database.
SLICE = 400
Item = TypeVar("Item")
Answer = tuple[str, int]  # interaction id and choice


def refresh(session: Session, interactions: Iterable[str]) -> int:
    """Bring the experience of these interactions up to date; returns how many answers have some."""
    count = 0
    for ids in slices(sorted(set(interactions))):
        count += _refresh(session, ids)
    return count


def sessions_of(session: Session, keys: Iterable[tuple[str, str]]) -> set[str]:
    """The interactions of these (tenant, session) pairs."""
    found: set[str] = set()
    column = tuple_(InteractionRow.tenant, InteractionRow.session_id)
    for some in slices(sorted(set(keys))):
        found.update(session.scalars(select(InteractionRow.id).where(column.in_(some))))
    return found


def judged_sessions(session: Session, keys: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of these (tenant, session) pairs that carry a judgement."""
    found: set[tuple[str, str]] = set()
    column = tuple_(JudgementRow.tenant, JudgementRow.session_id)
    for some in slices(sorted(set(keys))):
        query = select(JudgementRow.tenant, JudgementRow.session_id).where(column.in_(some))
        found.update((tenant, key) for tenant, key in session.execute(query) if key)
    return found


def standing_votes(
    session: Session, answers: Sequence[Answer]
) -> dict[Answer, list[FeedbackEvent]]:
    """What stands of all that was said about these answers; at most `SLICE` of them at once."""
    choices: dict[str, list[int]] = defaultdict(list)
    for interaction, choice in answers:
        choices[interaction].append(choice)
    query = select(InteractionRow).where(InteractionRow.id.in_(list(choices)))
    return _standing(session, {row.id: row for row in session.scalars(query)}, choices)


def effective(judgements: Sequence[FeedbackEvent]) -> list[FeedbackEvent]:
    """The last word of each person under each name, in a fixed order.

    Retracted ones must be among `judgements` still: a word taken back does not revive the one it
    had replaced.
    """
    last: dict[tuple[str | None, str, str | None], FeedbackEvent] = {}
    for judgement in sorted(judgements, key=lambda j: (j.time, j.revision, j.id)):
        last[judgement.user, judgement.name, judgement.session_id] = judgement
    return sorted(last.values(), key=lambda j: (j.time, j.revision, j.id))


def slices(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), SLICE):
        yield items[start : start + SLICE]


def as_event(row: JudgementRow) -> FeedbackEvent:
    return FeedbackEvent(
        id=row.id,
        time=datetime.fromtimestamp(row.time, UTC),
        tenant=row.tenant,
        user=row.user,
        interaction_id=row.interaction_id,
        session_id=row.session_id,
        choice=row.choice,
        name=row.name,  # type: ignore[arg-type]
        value=row.value,
        rationale=row.rationale,
        metadata=row.meta,
        revision=row.revision,
    )


def _refresh(session: Session, ids: Sequence[str]) -> int:
    interactions = {
        row.id: row
        for row in session.scalars(select(InteractionRow).where(InteractionRow.id.in_(ids)))
    }
    choices: dict[str, list[int]] = defaultdict(list)
    query = select(CompletionRow.interaction_id, CompletionRow.choice)
    for interaction, choice in session.execute(
        query.where(CompletionRow.interaction_id.in_(list(interactions)))
    ):
        choices[interaction].append(choice)
    standing = _standing(session, interactions, choices)
    shares = _session_sizes(session, interactions)

    old = {
        (row.interaction_id, row.choice): row
        for row in session.scalars(
            select(ExperienceRow).where(ExperienceRow.interaction_id.in_(list(interactions)))
        )
    }
    credits: dict[Answer, list[str]] = {}
    for (key, choice), kept in standing.items():
        share = {j.event_id: 1 / shares[j.tenant, j.session_id] for j in kept if j.session_id}
        row = _worth(interactions[key], choice, kept, share)
        if row is not None:
            credits[key, choice] = [j.event_id for j in kept]
            session.merge(row)
        elif (key, choice) in old:
            session.delete(old[key, choice])
    session.flush()
    _credit(session, interactions, credits)
    return len(credits)


def _standing(
    session: Session, interactions: dict[str, InteractionRow], choices: dict[str, list[int]]
) -> dict[Answer, list[FeedbackEvent]]:
    """For each answer, what stands of all that was said about it."""
    judgements = _judgements(session, interactions)
    retracted = _retracted(session, judgements)
    found: dict[Answer, list[FeedbackEvent]] = {}
    for key in interactions:
        for choice in choices[key]:
            said = [j for j in judgements[key] if j.session_id is not None or j.choice == choice]
            kept = [j for j in effective(said) if (j.tenant, j.id) not in retracted]
            found[key, choice] = kept
    return found


def _worth(
    interaction: InteractionRow,
    choice: int,
    kept: Sequence[FeedbackEvent],
    share: dict[str, float],
) -> ExperienceRow | None:
    if not kept:
        return None
    reward = reward_of(kept)
    if reward is None:
        return None
    # Where an answer has a judgement of its own, the session's share of it adds no doubt.
    spread = max(share.get(j.event_id, 1.0) for j in kept)
    return ExperienceRow(
        interaction_id=interaction.id,
        choice=choice,
        policy=interaction.policy,
        version=interaction.version,
        tenant=interaction.tenant,
        user=interaction.user,
        reward=reward.value,
        weight=reward.weight * spread,
        source=reward.source,
        judged_at=max(j.time.timestamp() for j in kept),
    )


def _credit(
    session: Session,
    interactions: dict[str, InteractionRow],
    credits: dict[Answer, list[str]],
) -> None:
    """Write down which judgements count now, numbering those that did not count before."""
    old = session.scalars(
        select(CreditRow).where(CreditRow.interaction_id.in_(list(interactions)))
    ).all()
    wanted = {(*answer, event) for answer, events in credits.items() for event in events}
    have = {(row.interaction_id, row.choice, row.event) for row in old}
    for row in old:
        if (row.interaction_id, row.choice, row.event) not in wanted:
            session.delete(row)
    fresh = sorted(wanted - have)
    if not fresh:
        return
    numbers = _numbers(session, interactions, fresh)
    for interaction, choice, event in fresh:
        policy = interactions[interaction].policy
        session.add(
            CreditRow(
                interaction_id=interaction,
                choice=choice,
                event=event,
                policy=policy,
                seq=numbers[policy, event],
            )
        )
    session.flush()


def _numbers(
    session: Session,
    interactions: dict[str, InteractionRow],
    fresh: Sequence[tuple[str, int, str]],
) -> dict[tuple[str, str], int]:
    """A session's judgement that already counts elsewhere keeps its number: it is new once."""
    keys = list(dict.fromkeys((interactions[i].policy, event) for i, _, event in fresh))
    known: dict[tuple[str, str], int] = {}
    for some in slices(keys):
        query = (
            select(CreditRow.policy, CreditRow.event, func.min(CreditRow.seq))
            .where(CreditRow.event.in_([event for _, event in some]))
            .group_by(CreditRow.policy, CreditRow.event)
        )
        known.update({(policy, event): seq for policy, event, seq in session.execute(query)})
    unknown = [key for key in keys if key not in known]
    if unknown:
        first = next_seq(session, "credit", len(unknown))
        known.update({key: first + index for index, key in enumerate(unknown)})
    return known


def _judgements(
    session: Session, interactions: dict[str, InteractionRow]
) -> dict[str, list[FeedbackEvent]]:
    """Per interaction, its own judgements and those of its session, of its own tenant only."""
    found: dict[str, list[FeedbackEvent]] = defaultdict(list)
    for row in session.scalars(
        select(JudgementRow).where(JudgementRow.interaction_id.in_(list(interactions)))
    ):
        if row.tenant == interactions[row.interaction_id].tenant:  # type: ignore[index]
            found[row.interaction_id].append(as_event(row))  # type: ignore[index]
    by_session: dict[tuple[str, str], list[str]] = defaultdict(list)
    for interaction in interactions.values():
        if interaction.session_id is not None:
            by_session[interaction.tenant, interaction.session_id].append(interaction.id)
    if by_session:
        column = tuple_(JudgementRow.tenant, JudgementRow.session_id)
        for row in session.scalars(select(JudgementRow).where(column.in_(list(by_session)))):
            for interaction in by_session[row.tenant, row.session_id]:  # type: ignore[index]
                found[interaction].append(as_event(row))
    return found


def _retracted(
    session: Session, judgements: dict[str, list[FeedbackEvent]]
) -> set[tuple[str, str]]:
    keys = sorted({(j.tenant, j.id) for some in judgements.values() for j in some})
    column = tuple_(RetractionRow.tenant, RetractionRow.feedback_id)
    found: set[tuple[str, str]] = set()
    for some in slices(keys):
        query = select(RetractionRow.tenant, RetractionRow.feedback_id).where(column.in_(some))
        found.update((tenant, key) for tenant, key in session.execute(query))
    return found


def _session_sizes(
    session: Session, interactions: dict[str, InteractionRow]
) -> dict[tuple[str, str | None], int]:
    keys = {(i.tenant, i.session_id) for i in interactions.values() if i.session_id is not None}
    if not keys:
        return {}
    column = tuple_(InteractionRow.tenant, InteractionRow.session_id)
    query = (
        select(InteractionRow.tenant, InteractionRow.session_id, func.count())
        .where(column.in_(list(keys)))
        .group_by(InteractionRow.tenant, InteractionRow.session_id)
    )
    return {(tenant, key): count for tenant, key, count in session.execute(query)}
