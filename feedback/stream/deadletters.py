"""Records that a reader could not use: kept beside their topic, with the reason, to be put back.

`<topic>.dlt` holds them unchanged, with headers that say where they came from and what was wrong.
After a fix, `replay` publishes them to their topic again; readers drop what they already have.
"""

import itertools
import math
from collections.abc import Iterator
from datetime import UTC, datetime

from burnish.feedback.contract import DEAD_LETTERS, TOPICS
from burnish.feedback.settings import StreamSettings
from burnish.feedback.stream.event_stream import EventStream
from burnish.feedback.stream.opening import open_stream
from burnish.feedback.stream.record import StreamRecord

_HEADER = "dlt_"
_LONGEST_MESSAGE = 500


def dead_letter(
    stream: EventStream, record: StreamRecord, error: Exception, attempts: int
) -> StreamRecord:
    """Put a record aside. Returns it as published, to `<topic>.dlt`, once that is durable.

    `attempts` counts the tries of this delivery; those before a replay are added.
    """
    letter = StreamRecord(
        topic=record.topic + DEAD_LETTERS,
        key=record.key,
        value=record.value,
        headers={
            **{n: v for n, v in record.headers.items() if not n.startswith(_HEADER)},
            "dlt_topic": record.topic,
            "dlt_partition": str(record.partition),
            "dlt_offset": record.offset or "",
            "dlt_exception": type(error).__name__,
            "dlt_message": str(error)[:_LONGEST_MESSAGE],
            "dlt_attempts": str(attempts + attempts_so_far(record)),
            "dlt_time": datetime.now(UTC).isoformat(),
        },
    )
    stream.publish([letter])
    return letter


def attempts_so_far(record: StreamRecord) -> int:
    """How often a dead letter, or a record replayed from one, has been tried."""
    attempts = record.headers.get("dlt_attempts", "0")
    return int(attempts) if attempts.isdecimal() else 0


def letters(stream: EventStream, topic: str, batch: int = 200) -> Iterator[StreamRecord]:
    """All dead letters of a topic, oldest first of each partition."""
    where = topic + DEAD_LETTERS
    for partition in stream.partitions(where):
        after = None
        while records := stream.read(where, partition, after, batch):
            yield from records
            after = records[-1].offset


def replay(stream: EventStream, topic: str, batch: int = 200) -> int:
    """Put the dead letters of a topic back into it. Returns how many.

    Those that are there when it starts: letters that come back meanwhile wait for the next call.
    """
    where, count = topic + DEAD_LETTERS, 0
    for partition in stream.partitions(where):
        end, after = stream.end_offset(where, partition), None
        while end is not None and after != end:
            records = stream.read(where, partition, after, batch)
            offsets = [record.offset for record in records]
            if end in offsets:
                records = records[: offsets.index(end) + 1]
            if not records or records[-1].offset is None:
                break
            stream.publish([_back(record, topic) for record in records])
            after = records[-1].offset
            # Only now: killed before this, some go back twice, none is lost.
            stream.trim(where, partition, after)
            count += len(records)
    return count


def forget(stream: EventStream, topic: str, before: float, batch: int = 200) -> int:
    """Delete the dead letters of a topic that were put aside before that time (seconds since the epoch); how
    many."""
    where, count = topic + DEAD_LETTERS, 0
    for partition in stream.partitions(where):
        after, last = None, None
        while records := stream.read(where, partition, after, batch):
            old = list(itertools.takewhile(lambda record: _put_aside(record) < before, records))
            count += len(old)
            last = old[-1].offset if old else last
            if len(old) < len(records):
                break
            after = records[-1].offset
        if last is not None:
            stream.trim(where, partition, last)
    return count


def _put_aside(letter: StreamRecord) -> float:
    """When; one that does not say is kept."""
    try:
        return datetime.fromisoformat(letter.headers["dlt_time"]).timestamp()
    except (KeyError, ValueError):
        return math.inf


def replay_all(settings: StreamSettings) -> dict[str, int]:
    """Replay every topic; for a command line. Returns how many went back, by topic."""
    stream = open_stream(settings)
    try:
        stream.ensure_topics()
        return {topic: replay(stream, topic) for topic in TOPICS}
    finally:
        stream.close()


def _back(letter: StreamRecord, topic: str) -> StreamRecord:
    kept = {n: v for n, v in letter.headers.items() if not n.startswith(_HEADER)}
    attempts = str(attempts_so_far(letter))
    return StreamRecord(topic, letter.key, letter.value, {**kept, "dlt_attempts": attempts})
