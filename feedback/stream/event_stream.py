"""The event stream as the rest of the house sees it: Kafka or Redis Streams behind one face.

Readers keep their own positions, in the database where the rows go, in the same transaction.
Nothing here commits anything: there are no consumer groups.
"""

from collections.abc import Sequence
from typing import Protocol

from burnish.feedback.stream.record import StreamRecord

__all__ = ["EventStream", "StreamRecord"]


class EventStream(Protocol):
    """Making one never connects; the first call does. Calls block, and belong to one thread.

    Every call may raise StreamUnavailable; the next call then connects anew.
    """

    system: str
    """OpenTelemetry's name for the server: `messaging.system`."""

    def ensure_topics(self) -> None:
        """Create the topics and their dead-letter topics, as far as they are missing."""
        ...

    def publish(self, records: Sequence[StreamRecord]) -> None:
        """Return when every record is durable. After an error any part of them may be: publish
        them again (delivery is at least once). Records with one key stay in order either way.

        Raises StreamFull, and RecordRefused for a record that no retry will help.
        """
        ...

    def partitions(self, topic: str) -> list[int]: ...

    def read(
        self,
        topic: str,
        partition: int,
        after: str | None,
        max_records: int = 500,
        timeout: float = 0.0,
    ) -> list[StreamRecord]:
        """Records that follow the offset `after` (exclusive; None: from the beginning), oldest
        first. Waits up to `timeout` seconds while there are none."""
        ...

    def end_offset(self, topic: str, partition: int) -> str | None:
        """The offset of the newest record; None while there is none."""
        ...

    def lag(self, topic: str, partition: int, after: str | None) -> int:
        """How many records follow the offset `after`."""
        ...

    def trim(self, topic: str, partition: int, upto: str) -> None:
        """The reader has stored everything up to and including `upto`: it may be forgotten.

        Redis forgets at once. Kafka keeps topics for their retention time, for other readers;
        only dead letters, which nobody else reads, are deleted.
        """
        ...

    def close(self) -> None: ...
