"""The event stream on Redis Streams: one stream per topic, one partition (0).

A publish is one transaction for each topic, so a topic's records keep their order and arrive all or
none. It returns once they are durable (durable_redis.py). With `replicas` so many copies of the server must have
it too, or the publish has failed. That
outlives a failover to one of these copies, which both Sentinel and Cluster prefer, as they have most; a
copy that only has it in memory loses it where it dies in the same moment.

Streams live in the server's memory. The reader trims what it has stored; what it has not is never
dropped, so a reader that stays away fills the stream to `max_waiting` and publishing then fails
with StreamFull, which leaves events in the spool.

Left out: consumer groups (readers keep their own positions) and several partitions.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import redis
from burnish.feedback.contract import STREAM_PREFIX, TOPICS
from burnish.feedback.errors import StreamFull
from burnish.feedback.stream.durable_redis import DurableRedis
from burnish.feedback.stream.record import StreamRecord

log = logging.getLogger(__name__)

_HEADER = b"h:"


class RedisStream:
    system = "redis"

    def __init__(
        self,
        url: str,
        *,
        prefix: str = STREAM_PREFIX,
        max_waiting: int = 500_000,
        durable_timeout_s: float = 5.0,
        replicas: int = 0,
    ) -> None:
        self.prefix = prefix
        self.max_waiting = max_waiting
        self._redis = DurableRedis(url, durable_timeout_s=durable_timeout_s, replicas=replicas)

    def ensure_topics(self) -> None:
        """Redis makes a stream when something is first put into it."""
        with self._redis.errors():
            for topic in TOPICS:
                self._on(topic).ping()

    def publish(self, records: Sequence[StreamRecord]) -> None:
        by_topic: dict[str, list[StreamRecord]] = defaultdict(list)
        for record in records:
            by_topic[record.topic].append(record)
        with self._redis.errors():
            for topic, waiting in by_topic.items():
                if self._on(topic).xlen(self._name(topic)) + len(waiting) > self.max_waiting:
                    raise StreamFull(f"{topic}: {self.max_waiting} records wait for their reader")
            for topic, waiting in by_topic.items():
                server = self._on(topic)
                self._redis.await_replicas(server)  # or each try would add the records once more
                pipe = server.pipeline(transaction=True)
                for record in waiting:
                    pipe.xadd(self._name(topic), _fields(record))
                pipe.execute()
                self._redis.await_replicas(server)
                self._redis.await_fsync(server)

    def partitions(self, topic: str) -> list[int]:
        return [0]

    def read(
        self,
        topic: str,
        partition: int,
        after: str | None,
        max_records: int = 500,
        timeout: float = 0.0,
    ) -> list[StreamRecord]:
        # Shorter than the socket's patience; and to Redis, blocking for 0 means for ever.
        block = min(int(timeout * 1000), self._redis.durable_ms) or None
        with self._redis.errors():
            if after is not None and self._has_lost(topic, after):
                log.error("%s ends before %s: reading it from its beginning", topic, after)
                after = None
            answer: Any = self._on(topic).xread(
                {self._name(topic): after or "0-0"}, count=max_records, block=block
            )
        entries = answer[0][1] if answer else []
        return [_record(topic, offset, fields) for offset, fields in entries]

    def end_offset(self, topic: str, partition: int) -> str | None:
        with self._redis.errors():
            newest: Any = self._on(topic).xrevrange(self._name(topic), count=1)
        return newest[0][0].decode() if newest else None

    def lag(self, topic: str, partition: int, after: str | None) -> int:
        """Of what is there: a reader trims what it has stored."""
        with self._redis.errors():
            server = self._on(topic)
            waiting: Any = server.xlen(self._name(topic))
            if after is not None and waiting:  # one whose trim did not come through is still there
                waiting -= len(server.xrange(self._name(topic), max=after))
        return waiting

    def trim(self, topic: str, partition: int, upto: str) -> None:
        milliseconds, _, sequence = upto.partition("-")
        first_kept = f"{milliseconds}-{int(sequence or 0) + 1}"
        with self._redis.errors():
            self._on(topic).xtrim(self._name(topic), minid=first_kept, approximate=False)

    def close(self) -> None:
        self._redis.close()

    def _on(self, topic: str) -> Any:
        return self._redis.on(self._name(topic))

    def _has_lost(self, topic: str, after: str) -> bool:
        """Whether the stream ends before what was read of it: a copy took over that had not got that
        far. Readers drop what they have seen."""
        try:
            told: Any = self._on(topic).xinfo_stream(self._name(topic))
        except redis.ResponseError:  # there is no such stream (yet)
            return False
        return _order(told["last-generated-id"].decode()) < _order(after)

    def _name(self, topic: str) -> str:
        return self.prefix + topic


def _order(offset: str) -> tuple[int, int]:
    milliseconds, _, sequence = offset.partition("-")
    return int(milliseconds), int(sequence or 0)


def _fields(record: StreamRecord) -> dict[Any, Any]:
    headers = {_HEADER + name.encode(): value for name, value in record.headers.items()}
    return {b"key": record.key, b"value": record.value, **headers}


def _record(topic: str, offset: bytes, fields: dict[bytes, bytes]) -> StreamRecord:
    # Whatever someone else put into the stream becomes a record too: the reader dead-letters it.
    return StreamRecord(
        topic=topic,
        key=fields.get(b"key", b"").decode(errors="replace"),
        value=fields.get(b"value", b""),
        headers={
            name.removeprefix(_HEADER).decode(errors="replace"): value.decode(errors="replace")
            for name, value in fields.items()
            if name.startswith(_HEADER)
        },
        offset=offset.decode(),
    )
