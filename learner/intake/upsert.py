"""Upserts: events become rows, each once, and whatever they touch is joined anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from burnish.feedback.events import Event, FeedbackEvent, InteractionEvent, RetractionEvent
from burnish.learner.database import take_turns
from burnish.learner.intake.erasure import delete_interactions, of_erased_users
from burnish.learner.intake.joining import (
    interactions_of_sessions,
    judged_sessions,
    refresh,
    slices,
)
from burnish.learner.intake.rows import (
    arm_row,
    completion_rows,
    interaction_row,
    judgement_row,
    without_nul,
)
from burnish.learner.intake.unmatched import list_unmatched, waiting_for
from burnish.learner.tables import (
    ArmRow,
    CompletionRow,
    InteractionRow,
    JudgementRow,
    RetractionRow,
)
from sqlalchemy import insert, select, tuple_
from sqlalchemy.orm import Session


@dataclass
class Counts:
    interactions: int = 0
    judgements: int = 0
    retractions: int = 0
    repeats: int = 0
    erased: int = 0
    unreadable: int = 0

    def add(self, other: Counts) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Touched:
    """What must be joined anew after a batch."""

    interactions: set[str] = field(default_factory=set)
    sessions: set[tuple[str, str]] = field(default_factory=set)  # (tenant, session) judged
    grown: set[tuple[str, str]] = field(default_factory=set)  # with one more answer
    judgements: set[tuple[str, str]] = field(default_factory=set)  # (tenant, id) given or retracted


def upsert(session: Session, events: Sequence[Event]) -> Counts:
    """Upsert events, those already stored excepted, and bring the experience up to date.

    Interactions, which are most of the bytes, are written beside other workers; whatever looks at what
    others write waits for its turn.
    """
    counts, touched = Counts(), Touched()
    _interactions(session, [e for e in events if isinstance(e, InteractionEvent)], counts, touched)
    session.flush()
    take_turns(session)
    events = _keep_out_erased(session, events, counts, touched)
    _judgements(session, [e for e in events if isinstance(e, FeedbackEvent)], counts, touched)
    _retractions(session, [e for e in events if isinstance(e, RetractionEvent)], counts, touched)
    session.flush()
    waiting = waiting_for(session, touched.interactions, touched.grown)
    list_unmatched(session, touched.judgements | waiting)
    # A session's judgements are shared among its answers: one more answer concerns them all.
    judged = touched.sessions | judged_sessions(session, touched.grown)
    refresh(session, touched.interactions | interactions_of_sessions(session, judged))
    return counts


def _interactions(
    session: Session, events: Sequence[InteractionEvent], counts: Counts, touched: Touched
) -> None:
    known: set[str] = set()
    interactions: list[dict[str, Any]] = []
    completions: list[dict[str, Any]] = []
    arms: list[dict[str, Any]] = []
    for part in slices([event.id for event in events]):
        known.update(session.scalars(select(InteractionRow.id).where(InteractionRow.id.in_(part))))
    for event in events:
        if event.id in known:
            counts.repeats += 1
            continue
        known.add(event.id)
        counts.interactions += 1
        interactions.append(interaction_row(event))
        completions += completion_rows(event)
        arms += [row] if (row := arm_row(event)) else []
        touched.interactions.add(event.id)
        if event.session_id is not None:
            touched.grown.add((event.tenant, without_nul(event.session_id)))
    for table, rows in (
        (InteractionRow, interactions),
        (CompletionRow, completions),
        (ArmRow, arms),
    ):
        if rows:  # in one statement: nobody needs these as objects
            session.execute(insert(table), rows, execution_options={"render_nulls": True})


def _keep_out_erased(
    session: Session, events: Sequence[Event], counts: Counts, touched: Touched
) -> Sequence[Event]:
    """Without what people did before they were erased; interactions among it go again."""
    erased = of_erased_users(session, events)
    if not erased:
        return events
    written = touched.interactions & erased
    delete_interactions(session, written)
    touched.interactions -= written
    counts.interactions -= len(written)
    counts.erased += len(erased)
    return [event for event in events if event.event_id not in erased]


def _judgements(
    session: Session, events: Sequence[FeedbackEvent], counts: Counts, touched: Touched
) -> None:
    column = tuple_(JudgementRow.tenant, JudgementRow.id)
    known: dict[tuple[str, str], JudgementRow] = {}
    for part in slices([(event.tenant, event.id) for event in events]):
        rows = session.scalars(select(JudgementRow).where(column.in_(part)))
        known.update({(row.tenant, row.id): row for row in rows})
    for event in events:
        row = known.get((event.tenant, event.id))
        if row is not None and (row.time, row.revision) >= _order(event):
            counts.repeats += 1
            continue
        counts.judgements += 1
        if row is not None:
            _touch(touched, row.tenant, row.interaction_id, row.session_id)
        given = judgement_row(event)
        # To merge a row that is not there asks the database for each one.
        session.add(given) if row is None else session.merge(given)
        known[event.tenant, event.id] = given
        touched.judgements.add((event.tenant, event.id))
        _touch(touched, event.tenant, event.interaction_id, event.session_id)


def _retractions(
    session: Session, events: Sequence[RetractionEvent], counts: Counts, touched: Touched
) -> None:
    keys = [(event.tenant, event.feedback_id) for event in events]
    known: dict[tuple[str, str], float] = {}
    for part in slices(keys):
        column = tuple_(RetractionRow.tenant, RetractionRow.feedback_id)
        rows = session.scalars(select(RetractionRow).where(column.in_(part)))
        known.update({(row.tenant, row.feedback_id): row.time for row in rows})
    for event, key in zip(events, keys, strict=True):
        time = event.time.timestamp()
        if known.get(key, -math.inf) >= time:
            counts.repeats += 1
            continue
        known[key] = time
        counts.retractions += 1
        session.merge(RetractionRow(tenant=key[0], feedback_id=key[1], time=time))
        touched.judgements.add(key)
        row = session.get(JudgementRow, key)
        if row is not None:
            _touch(touched, row.tenant, row.interaction_id, row.session_id)


def _order(event: FeedbackEvent) -> tuple[float, int]:
    """What says which of the bodies sent under one id is the last, wherever it was accepted."""
    return event.time.timestamp(), event.revision


def _touch(touched: Touched, tenant: str, interaction: str | None, session: str | None) -> None:
    if interaction is not None:
        touched.interactions.add(interaction)
    if session is not None:
        touched.sessions.add((tenant, session))
