"""The intake tick: consumes the stream into the experience database, each event once.

Offsets are rows of the database and move in the transaction that writes the events, so a tick that
dies leaves either nothing or everything, and what is delivered again is recognised. A record that
cannot be read, or that the database refuses, goes to the dead letters; the others go on. Left out:
consumer groups, whose offsets would be another store's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from burnish.feedback.contract import TOPICS
from burnish.feedback.errors import UnknownEvent
from burnish.feedback.events import (
    Event,
    FeedbackEvent,
    InteractionEvent,
    RetractionEvent,
    decode,
)
from burnish.feedback.stream.deadletters import dead_letter
from burnish.feedback.stream.event_stream import EventStream, StreamRecord
from burnish.feedback.telemetry.messaging import processing
from burnish.feedback.telemetry.trail import Trail
from burnish.learner.database import (
    Database,
    InteractionRow,
    JudgementRow,
    OffsetRow,
    RetractionRow,
    take_turns,
)
from burnish.learner.intake.joining import (
    interactions_of_sessions,
    judged_sessions,
    refresh,
    slices,
)
from burnish.learner.intake.rows import (
    completion_rows,
    interaction_row,
    judgement_row,
    without_nul,
)
from burnish.learner.intake.unmatched import list_unmatched, waiting_for
from burnish.learner.lease import Lease, LeaseLost
from burnish.learner.ticks import Tick, intake_tick
from sqlalchemy import select, tuple_
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

# What is wrong with a record: a database refuses its content, whichever way its driver puts it, or
# our own code stumbles over it. Such a record must not hold up those behind it.
REFUSALS = (
    DataError,
    IntegrityError,
    OverflowError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
BATCH = 500


@dataclass
class Counts:
    interactions: int = 0
    judgements: int = 0
    retractions: int = 0
    repeats: int = 0
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


def consume(
    database: Database,
    stream: EventStream,
    lease: Lease,
    *,
    partitions: Sequence[int] | None = None,
    seconds: float = 5.0,
    trail: Trail | None = None,
) -> Tick | None:
    """Consume what is in these partitions of every topic (None: all), until the time is up; None when
    nothing was there. Traces of events go on along the `trail`.

    What arrives meanwhile is the next tick's, unless there is a whole batch of it: a batch of one
    costs as much as one of twenty. Raises StreamUnavailable and LeaseLost; whatever was committed
    before stays.
    """
    started, counts, more = time.monotonic(), Counts(), True
    while more and time.monotonic() - started < seconds:
        more = False
        for topic in TOPICS:
            for partition in stream.partitions(topic):
                if partitions is not None and partition not in partitions:
                    continue
                records, counted = _consume_batch(database, stream, lease, topic, partition, trail)
                counts.add(counted)
                more |= records == BATCH
    figures = {name: value for name, value in vars(counts).items() if value}
    return intake_tick(figures, time.monotonic() - started) if figures else None


def _consume_batch(
    database: Database,
    stream: EventStream,
    lease: Lease,
    topic: str,
    partition: int,
    trail: Trail | None,
) -> tuple[int, Counts]:
    """How many records were read, and what they were."""
    with database.read() as session:
        at = session.get(OffsetRow, (topic, partition))
        after = at.position if at else None
    records = stream.read(topic, partition, after, BATCH)
    if not records:
        return 0, Counts()
    with processing(stream.system, records, trail):
        counts = _store_batch(database, stream, lease, after, records)
    stream.trim(topic, partition, records[-1].offset or "")
    return len(records), counts


def _store_batch(
    database: Database,
    stream: EventStream,
    lease: Lease,
    after: str | None,
    records: Sequence[StreamRecord],
) -> Counts:
    """Store the records of one partition that follow `after`, and the offset behind them, in one
    transaction. Raises LeaseLost where another worker has stored them."""
    events, unreadable = _decode(records)
    try:
        with database.write() as session:
            lease.fence(session)
            _move_offset(session, records[-1], after)
            counts = upsert(session, events)
            _to_dead_letters(stream, unreadable)
    except REFUSALS:
        # The database refuses a record of the batch: find it by trying each one alone.
        with database.write() as session:
            lease.fence(session)
            _move_offset(session, records[-1], after)
            counts, refused = _upsert_one_by_one(session, records)
            _to_dead_letters(stream, [*unreadable, *refused])
            counts.unreadable += len(refused)
    counts.unreadable += len(unreadable)
    return counts


def _move_offset(session: Session, to: StreamRecord, after: str | None) -> None:
    """Raises LeaseLost unless the offset stands at `after`; the row is locked from here on."""
    assert to.offset is not None, "a record that was read knows its offset"
    key = (to.topic, to.partition)
    row = session.get(OffsetRow, key, with_for_update=True)
    if (row.position if row else None) != after:
        raise LeaseLost(f"{to.topic}, partition {to.partition}: another worker has stored this")
    session.merge(OffsetRow(topic=to.topic, partition=to.partition, position=to.offset))
    session.flush()


def upsert(session: Session, events: Sequence[Event]) -> Counts:
    """Upsert events, those already stored excepted, and bring the experience up to date.

    Interactions, which are most of the bytes, are written beside other workers; whatever looks at what
    others write waits for its turn.
    """
    counts, touched = Counts(), Touched()
    _interactions(session, [e for e in events if isinstance(e, InteractionEvent)], counts, touched)
    session.flush()
    take_turns(session)
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
    for part in slices([event.id for event in events]):
        known.update(session.scalars(select(InteractionRow.id).where(InteractionRow.id.in_(part))))
    for event in events:
        if event.id in known:
            counts.repeats += 1
            continue
        known.add(event.id)
        counts.interactions += 1
        session.add(interaction_row(event))
        session.add_all(completion_rows(event))
        touched.interactions.add(event.id)
        if event.session_id is not None:
            touched.grown.add((event.tenant, without_nul(event.session_id)))


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
        known[event.tenant, event.id] = session.merge(judgement_row(event))
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


def _decode(
    records: Sequence[StreamRecord],
) -> tuple[list[Event], list[tuple[StreamRecord, Exception]]]:
    events: list[Event] = []
    unreadable: list[tuple[StreamRecord, Exception]] = []
    for record in records:
        try:
            events.append(decode(record))
        except UnknownEvent as error:
            unreadable.append((record, error))
    return events, unreadable


def _upsert_one_by_one(
    session: Session, records: Sequence[StreamRecord]
) -> tuple[Counts, list[tuple[StreamRecord, Exception]]]:
    counts = Counts()
    refused: list[tuple[StreamRecord, Exception]] = []
    for record in records:
        events, _ = _decode([record])
        try:
            with session.begin_nested():
                counts.add(upsert(session, events))
        except REFUSALS as error:
            refused.append((record, error))
    return counts, refused


def _to_dead_letters(
    stream: EventStream, records: Sequence[tuple[StreamRecord, Exception]]
) -> None:
    for record, error in records:
        dead_letter(stream, record, error, attempts=1)
