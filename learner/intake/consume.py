"""The intake tick: consumes the stream into the experience database, each event once.

Offsets are rows of the database and move in the transaction that writes the events, so a tick that
dies leaves either nothing or everything, and what is delivered again is recognised. A record that
cannot be read, or that the database refuses, goes to the dead letters; the others go on. Left out:
consumer groups, whose offsets would be another store's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from burnish.feedback.contract import TOPICS
from burnish.feedback.errors import KeyDestroyed, UnknownEvent
from burnish.feedback.events import (
    Event,
    decode,
)
from burnish.feedback.stream.deadletters import dead_letter
from burnish.feedback.stream.event_stream import EventStream, StreamRecord
from burnish.feedback.telemetry.messaging import processing
from burnish.feedback.telemetry.trail import Trail
from burnish.learner.database import Database
from burnish.learner.intake.upsert import Counts, upsert
from burnish.learner.lease import Lease, LeaseLost
from burnish.learner.tables import OffsetRow
from burnish.learner.ticks import Tick, intake_tick
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
    events, unreadable, erased = _decode(records)
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
    counts.erased += erased
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


def _decode(
    records: Sequence[StreamRecord],
) -> tuple[list[Event], list[tuple[StreamRecord, Exception]], int]:
    """The events, the records that are none, and how many nobody can read, for those people were erased."""
    events: list[Event] = []
    unreadable: list[tuple[StreamRecord, Exception]] = []
    erased = 0
    for record in records:
        try:
            events.append(decode(record))
        except KeyDestroyed:
            erased += 1
        except UnknownEvent as error:
            unreadable.append((record, error))
    return events, unreadable, erased


def _upsert_one_by_one(
    session: Session, records: Sequence[StreamRecord]
) -> tuple[Counts, list[tuple[StreamRecord, Exception]]]:
    counts = Counts()
    refused: list[tuple[StreamRecord, Exception]] = []
    for record in records:
        events, _, _ = _decode([record])
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
