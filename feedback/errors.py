"""What can go wrong in this room.

FeedbackError
├── UnknownEvent (ValueError)        a record that is no event of ours, or a broken one
├── KeyDestroyed                     an event of somebody who was erased: nobody can read it
├── SpoolError (OSError)             the spool cannot be read or written
│   ├── SpoolFull                    it holds as much as it may: ask again later
│   ├── DiskFull                     its disk has no room: ask again later
│   └── SpoolDamaged                 its file is damaged
├── LedgerUnavailable (ConnectionError)   the ledger that replicas share does not answer
├── EventTooLarge (ValueError)       one event is bigger than the stream would take
└── StreamError
    ├── StreamUnavailable (ConnectionError)   no server, or no answer: try again
    ├── StreamFull                            the server holds as much as it may: try again
    └── RecordRefused (ValueError)            this record will never be taken
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from burnish.feedback.stream.record import StreamRecord


class FeedbackError(Exception):
    pass


class UnknownEvent(FeedbackError, ValueError):
    pass


class KeyDestroyed(FeedbackError):
    pass


class SpoolError(FeedbackError, OSError):
    pass


class SpoolFull(SpoolError):
    pass


class DiskFull(SpoolError):
    pass


class SpoolDamaged(SpoolError):
    pass


class LedgerUnavailable(FeedbackError, ConnectionError):
    pass


class EventTooLarge(FeedbackError, ValueError):
    pass


class StreamError(FeedbackError):
    pass


class StreamUnavailable(StreamError, ConnectionError):
    pass


class StreamFull(StreamError):
    pass


class RecordRefused(StreamError, ValueError):
    """Names the record, so that the others of its batch can go on without it."""

    def __init__(self, record: StreamRecord, reason: str) -> None:
        super().__init__(f"{record.topic}: {record.event_id or record.key}: {reason}")
        self.record = record
