"""Joining: which judgements stand on which answer.

`refresh` keeps the experience table a pure function of what has arrived, in whatever order it
arrived: an answer is there while a judgement stands on it that says good or bad. What it is worth
is decided when it is learnt from (reward/experience.py), since that depends on who is trusted then.
A judgement of a session counts, at an equal share, for each of its answers; whose it is more than the
others' is decided then, too (reward/credit_assignment.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from burnish.feedback.judgements import Judgement, own_first, standing
from burnish.feedback.rewards import worth_of
from burnish.learner.database import next_seq
from burnish.learner.tables import (
    CompletionRow,
    CreditRow,
    ExperienceRow,
    InteractionRow,
    JudgementRow,
    RetractionRow,
)
from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

# Rows per statement: far below the parameter limits of either database.
SLICE = 400
Item = TypeVar("Item")
AnswerKey = tuple[str, int]  # interaction id and choice


class _Interaction(NamedTuple):
    """Of an interaction what joining needs: its contents are most of the bytes, and stay unread."""

    id: str
    tenant: str
    user: str | None
    session_id: str | None
    policy: str
    version: int


class _Given(NamedTuple):
    """Of a judgement what joining needs."""

    id: str
    tenant: str
    user: str | None
    key_id: str | None
    interaction_id: str | None
    session_id: str | None
    choice: int
    name: str
    value: Any
    time: float
    revision: int
    rationale: str | None


_INTERACTION = select(*(getattr(InteractionRow, name) for name in _Interaction._fields))
_GIVEN = select(*(getattr(JudgementRow, name) for name in _Given._fields))


def refresh(session: Session, interactions: Iterable[str]) -> int:
    """Bring the experience of these interactions up to date; returns how many answers have some."""
    count = 0
    for ids in slices(sorted(set(interactions))):
        count += _refresh(session, ids)
    return count


def interactions_of_sessions(session: Session, keys: Iterable[tuple[str, str]]) -> set[str]:
    """The interactions of these (tenant, session) pairs."""
    found: set[str] = set()
    column = tuple_(InteractionRow.tenant, InteractionRow.session_id)
    for part in slices(sorted(set(keys))):
        found.update(session.scalars(select(InteractionRow.id).where(column.in_(part))))
    return found


def judged_sessions(session: Session, keys: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of these (tenant, session) pairs that carry a judgement."""
    found: set[tuple[str, str]] = set()
    column = tuple_(JudgementRow.tenant, JudgementRow.session_id)
    for part in slices(sorted(set(keys))):
        query = select(JudgementRow.tenant, JudgementRow.session_id).where(column.in_(part))
        found.update((tenant, key) for tenant, key in session.execute(query) if key)
    return found


def judgements_of_sessions(
    session: Session, keys: Iterable[tuple[str, str]]
) -> set[tuple[str, str]]:
    """The judgements, as tenant and id, of these (tenant, session) pairs."""
    found: set[tuple[str, str]] = set()
    column = tuple_(JudgementRow.tenant, JudgementRow.session_id)
    for part in slices(sorted(set(keys))):
        query = select(JudgementRow.tenant, JudgementRow.id).where(column.in_(part))
        found.update((tenant, id) for tenant, id in session.execute(query))
    return found


def standing_judgements(
    session: Session, answers: Sequence[AnswerKey]
) -> dict[AnswerKey, list[Judgement]]:
    """What stands on each of these answers, oldest first."""
    found: dict[AnswerKey, list[Judgement]] = {}
    for keys in slices(answers):
        choices: dict[str, list[int]] = defaultdict(list)
        for interaction, choice in keys:
            choices[interaction].append(choice)
        found.update(_standing(session, _interactions(session, list(choices)), choices))
    return found


def slices(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), SLICE):
        yield items[start : start + SLICE]


def _interactions(session: Session, ids: Sequence[str]) -> dict[str, _Interaction]:
    rows = session.execute(_INTERACTION.where(InteractionRow.id.in_(ids)))
    return {row.id: row for row in map(_Interaction._make, rows)}


def _refresh(session: Session, ids: Sequence[str]) -> int:
    interactions = _interactions(session, ids)
    choices: dict[str, list[int]] = defaultdict(list)
    query = select(CompletionRow.interaction_id, CompletionRow.choice)
    for interaction, choice in session.execute(
        query.where(CompletionRow.interaction_id.in_(list(interactions)))
    ):
        choices[interaction].append(choice)
    old = {
        (row.interaction_id, row.choice): row
        for row in session.scalars(
            select(ExperienceRow).where(ExperienceRow.interaction_id.in_(list(interactions)))
        )
    }
    credits: dict[AnswerKey, list[str]] = {}
    for (key, choice), judgements in _standing(session, interactions, choices).items():
        if any(map(worth_of, judgements)):
            credits[key, choice] = [judgement.event_id for judgement in judgements]
            row = _experience_row(interactions[key], choice, judgements)
            # To merge a row that is not there asks the database for each one.
            session.merge(row) if (key, choice) in old else session.add(row)
        elif (key, choice) in old:
            session.delete(old[key, choice])
    session.flush()
    _credit(session, interactions, credits)
    return len(credits)


def _standing(
    session: Session,
    interactions: Mapping[str, _Interaction],
    choices: Mapping[str, Sequence[int]],
) -> dict[AnswerKey, list[Judgement]]:
    """For each answer, what stands of all that was said about it and about its session."""
    rows = _judgement_rows(session, interactions)
    retracted = _retracted(session, rows)
    sizes = _session_sizes(session, interactions)
    return {
        (key, choice): own_first(
            standing(
                [
                    _judgement(row, interactions[key], choice, sizes)
                    for row in rows[key]
                    if row.session_id is not None or row.choice == choice
                ],
                retracted,
            )
        )
        for key in interactions
        for choice in choices[key]
    }


def _judgement(
    row: _Given,
    interaction: _Interaction,
    choice: int,
    sizes: Mapping[tuple[str, str | None], int],
) -> Judgement:
    return Judgement(
        id=row.id,
        tenant=row.tenant,
        user=row.user,
        asker=interaction.user,
        key_id=row.key_id,
        interaction_id=interaction.id,
        choice=choice,
        session_id=row.session_id,
        name=row.name,
        value=row.value,
        time=row.time,
        revision=row.revision,
        rationale=row.rationale,
        share=1 / sizes[row.tenant, row.session_id] if row.session_id is not None else 1.0,
    )


def _experience_row(
    interaction: _Interaction, choice: int, judgements: Sequence[Judgement]
) -> ExperienceRow:
    return ExperienceRow(
        interaction_id=interaction.id,
        choice=choice,
        policy=interaction.policy,
        version=interaction.version,
        tenant=interaction.tenant,
        user=interaction.user,
        judged_at=max(judgement.time for judgement in judgements),
    )


def _credit(
    session: Session,
    interactions: Mapping[str, _Interaction],
    credits: dict[AnswerKey, list[str]],
) -> None:
    """Store which judgements count now, numbering those that did not count before."""
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
    interactions: Mapping[str, _Interaction],
    fresh: Sequence[tuple[str, int, str]],
) -> dict[tuple[str, str], int]:
    """A session's judgement that already counts elsewhere keeps its number: it is new once."""
    keys = list(dict.fromkeys((interactions[i].policy, event) for i, _, event in fresh))
    known: dict[tuple[str, str], int] = {}
    for part in slices(keys):
        query = (
            select(CreditRow.policy, CreditRow.event, func.min(CreditRow.seq))
            .where(CreditRow.event.in_([event for _, event in part]))
            .group_by(CreditRow.policy, CreditRow.event)
        )
        known.update({(policy, event): seq for policy, event, seq in session.execute(query)})
    unknown = [key for key in keys if key not in known]
    if unknown:
        first = next_seq(session, "credit", len(unknown))
        known.update({key: first + index for index, key in enumerate(unknown)})
    return known


def _judgement_rows(
    session: Session, interactions: Mapping[str, _Interaction]
) -> dict[str, list[_Given]]:
    """Per interaction, its own judgements and those of its session, of its own tenant only."""
    found: dict[str, list[_Given]] = defaultdict(list)
    own = _GIVEN.where(JudgementRow.interaction_id.in_(list(interactions)))
    for row in map(_Given._make, session.execute(own)):
        interaction = row.interaction_id or ""
        if row.tenant == interactions[interaction].tenant:
            found[interaction].append(row)
    by_session: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for interaction in interactions.values():
        if interaction.session_id is not None:
            by_session[interaction.tenant, interaction.session_id].append(interaction.id)
    if by_session:
        column = tuple_(JudgementRow.tenant, JudgementRow.session_id)
        of_sessions = _GIVEN.where(column.in_(list(by_session)))
        for row in map(_Given._make, session.execute(of_sessions)):
            for interaction in by_session[row.tenant, row.session_id]:
                found[interaction].append(row)
    return found


def _retracted(session: Session, rows: Mapping[str, Sequence[_Given]]) -> set[tuple[str, str]]:
    """Those taken back after they were given; what was given again afterwards is not among them."""
    given = {(row.tenant, row.id): row.time for judged in rows.values() for row in judged}
    column = tuple_(RetractionRow.tenant, RetractionRow.feedback_id)
    found: set[tuple[str, str]] = set()
    for part in slices(sorted(given)):
        for row in session.scalars(select(RetractionRow).where(column.in_(part))):
            if row.time >= given[row.tenant, row.feedback_id]:
                found.add((row.tenant, row.feedback_id))
    return found


def _session_sizes(
    session: Session, interactions: Mapping[str, _Interaction]
) -> dict[tuple[str, str | None], int]:
    """How many interactions the sessions of these have, by tenant and session."""
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
