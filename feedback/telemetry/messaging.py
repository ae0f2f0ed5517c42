"""Spans of messages: the attributes of OpenTelemetry's messaging conventions.

A record carries the span in which its event was accepted as `traceparent`; whatever is done with the
record is a child of that one. Records without one are passed over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from burnish.feedback.stream.record import StreamRecord
from burnish.feedback.telemetry import tracing
from burnish.feedback.telemetry.trail import Trail


@contextmanager
def sending(system: str, records: Sequence[StreamRecord]) -> Iterator[None]:
    """Around what publishes these records."""
    traced = _traced(records)
    began, error = time.time(), None
    try:
        yield
    except BaseException as failure:
        error = type(failure).__name__
        raise
    finally:
        for record in traced:
            _past("send", "producer", system, record, began, error=error)


@contextmanager
def processing(system: str, records: Sequence[StreamRecord], trail: Trail | None) -> Iterator[None]:
    """Around what stores these records; their trail goes on from here. A judgement's span is linked to
    that of its interaction."""
    traced = _traced(records)
    began = time.time()
    try:
        yield
    except BaseException as failure:
        for record in traced:
            _past("process", "consumer", system, record, began, error=type(failure).__name__)
        raise
    if not traced:
        return
    interactions = trail.follow({r.key for r in traced if r.key != r.event_id}) if trail else {}
    left: dict[str, str] = {}
    for record in traced:
        about = interactions.get(record.key) or left.get(record.key)
        links = (about,) if about and record.key != record.event_id else ()
        made = _past("process", "consumer", system, record, began, links=links)
        if made is not None:
            left[record.event_id] = made
    if trail is not None:
        trail.leave(left)


def _traced(records: Sequence[StreamRecord]) -> list[StreamRecord]:
    if not tracing.is_on():
        return []
    return [record for record in records if tracing.HEADER in record.headers]


def _past(
    operation: str,
    kind: tracing.Kind,
    system: str,
    record: StreamRecord,
    began: float,
    *,
    links: Sequence[str] = (),
    error: str | None = None,
) -> str | None:
    attributes = {
        "messaging.system": system,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": record.topic,
        "messaging.message.id": record.event_id,
    }
    if record.offset is not None:
        attributes["messaging.destination.partition.id"] = str(record.partition)
    return tracing.past(
        f"{operation} {record.topic}",
        began,
        time.time(),
        attributes,
        kind=kind,
        parent=record.headers[tracing.HEADER],
        links=links,
        error=error,
    )
