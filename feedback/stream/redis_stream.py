"""The event stream on Redis Streams: one stream per topic, one partition (0).

A publish is one transaction, so records keep their order and arrive all or none. Durable means:
in the server's append-only file. Servers that can tell (Redis and Valkey from 7.2) are asked to
wait for the fsync; older ones have written the record to the operating system before they answer.

Streams live in the server's memory. The reader trims what it has stored; what it has not is never
dropped, so a reader that stays away fills the stream to `max_waiting` and publishing then fails
with StreamFull, which leaves events in the spool.

Left out: consumer groups (readers keep their own positions) and several partitions.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from burnish.feedback.contract import STREAM_PREFIX
from burnish.feedback.errors import StreamError, StreamFull, StreamUnavailable
from burnish.feedback.stream.record import StreamRecord
from redis.backoff import NoBackoff
from redis.retry import Retry

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
    ) -> None:
        self.prefix = prefix
        self.max_waiting = max_waiting
        self._durable_ms = int(durable_timeout_s * 1000)
        # Calls come from one thread, so the pool hands out the same connection each time. WAITAOF
        # relies on that: it speaks of the writes of its own connection.
        self._redis = redis.Redis.from_url(
            url,
            # A server that hangs must look like one that is down.
            socket_timeout=2 * durable_timeout_s,
            socket_connect_timeout=durable_timeout_s,
            # Once, for a connection gone stale; patience is the caller's.
            retry=Retry(NoBackoff(), 1),
        )
        self._asks_for_fsync = True

    def ensure_topics(self) -> None:
        """Redis makes a stream when something is first put into it."""
        with self._errors():
            self._redis.ping()

    def publish(self, records: Sequence[StreamRecord]) -> None:
        if not records:
            return
        with self._errors():
            for topic in {record.topic for record in records}:
                if self._redis.xlen(self._name(topic)) + len(records) > self.max_waiting:
                    raise StreamFull(f"{topic}: {self.max_waiting} records wait for their reader")
            pipe = self._redis.pipeline(transaction=True)
            for record in records:
                pipe.xadd(self._name(record.topic), _fields(record))
            pipe.execute()
            self._await_fsync()

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
        block = min(int(timeout * 1000), self._durable_ms) or None
        with self._errors():
            answer: Any = self._redis.xread(
                {self._name(topic): after or "0-0"}, count=max_records, block=block
            )
        entries = answer[0][1] if answer else []
        return [_record(topic, offset, fields) for offset, fields in entries]

    def end_offset(self, topic: str, partition: int) -> str | None:
        with self._errors():
            newest: Any = self._redis.xrevrange(self._name(topic), count=1)
        return newest[0][0].decode() if newest else None

    def lag(self, topic: str, partition: int, after: str | None) -> int:
        """Of what is there: a reader trims what it has stored."""
        with self._errors():
            waiting: Any = self._redis.xlen(self._name(topic))
            if after is not None and waiting:  # one whose trim did not come through is still there
                waiting -= len(self._redis.xrange(self._name(topic), max=after))
        return waiting

    def trim(self, topic: str, partition: int, upto: str) -> None:
        milliseconds, _, sequence = upto.partition("-")
        first_kept = f"{milliseconds}-{int(sequence or 0) + 1}"
        with self._errors():
            self._redis.xtrim(self._name(topic), minid=first_kept, approximate=False)

    def close(self) -> None:
        self._redis.close()

    def _name(self, topic: str) -> str:
        return self.prefix + topic

    def _await_fsync(self) -> None:
        if not self._asks_for_fsync:
            return
        try:
            on_disk: Any = self._redis.waitaof(1, 0, self._durable_ms)
        except redis.ResponseError as error:
            # Either a server older than the command, or one without an append-only file.
            self._asks_for_fsync = False
            if not self._fsyncs_always():
                log.warning("events are as durable as the Redis server is by itself: %s", error)
            return
        if on_disk[0] < 1:
            raise StreamUnavailable("Redis did not write its append-only file in time")

    def _fsyncs_always(self) -> bool:
        """Whether the server writes every command to disk before it answers, unasked."""
        try:
            told: Any = self._redis.config_get("append*")
        except redis.ResponseError:  # hosted servers hide their configuration
            return False
        return told.get("appendonly") == "yes" and told.get("appendfsync") == "always"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise StreamUnavailable(f"Redis: {error}") from error
        except redis.OutOfMemoryError as error:
            raise StreamFull(f"Redis: {error}") from error
        except redis.RedisError as error:
            raise StreamError(f"Redis: {error}") from error


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
