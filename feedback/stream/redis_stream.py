"""The event stream on Redis Streams: one stream per topic, one partition (0).

A publish is one transaction for each topic, so a topic's records keep their order and arrive all or
none. Durable means: in the server's append-only file. Servers that can tell (Redis and Valkey from 7.2) are asked to
wait for the fsync; older ones have written the record to the operating system before they answer.
With `replicas` so many copies of the server must have it too (WAIT), or the publish has failed. That
outlives a failover to one of these copies, which both Sentinel and Cluster prefer, as they have most; a
copy that only has it in memory loses it where it dies in the same moment.

On a cluster each topic is spoken to on the node that has it, by a connection of its own: what waits for
a write speaks of its connection.

Streams live in the server's memory. The reader trims what it has stored; what it has not is never
dropped, so a reader that stays away fills the stream to `max_waiting` and publishing then fails
with StreamFull, which leaves events in the spool.

Left out: consumer groups (readers keep their own positions) and several partitions.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from burnish.feedback.contract import STREAM_PREFIX, TOPICS
from burnish.feedback.errors import StreamError, StreamFull, StreamUnavailable
from burnish.feedback.redis_clients import open_client
from burnish.feedback.stream.record import StreamRecord
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    RedisClusterException,
    TryAgainError,
)
from redis.retry import Retry

log = logging.getLogger(__name__)

_HEADER = b"h:"
# The server is no master any more, not yet, or not of this topic.
_MOVED = (
    redis.ReadOnlyError,
    AskError,
    TryAgainError,
    ClusterDownError,
    MasterDownError,
    RedisClusterException,
)


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
        self._url, self._replicas = url, replicas
        self._durable_ms = int(durable_timeout_s * 1000)
        self._options = {
            # A server that hangs must look like one that is down.
            "socket_timeout": 2 * durable_timeout_s,
            "socket_connect_timeout": durable_timeout_s,
            # Once, for a connection gone stale; patience is the caller's.
            "retry": Retry(NoBackoff(), 1),
        }
        # Calls come from one thread, so the pool hands out the same connection each time. WAIT and
        # WAITAOF rely on that: they speak of the writes of their own connection.
        self._client: Any = None
        self._asks_for_fsync = True

    def ensure_topics(self) -> None:
        """Redis makes a stream when something is first put into it."""
        with self._errors():
            for topic in TOPICS:
                self._on(topic).ping()

    def publish(self, records: Sequence[StreamRecord]) -> None:
        by_topic: dict[str, list[StreamRecord]] = defaultdict(list)
        for record in records:
            by_topic[record.topic].append(record)
        with self._errors():
            for topic, waiting in by_topic.items():
                if self._on(topic).xlen(self._name(topic)) + len(waiting) > self.max_waiting:
                    raise StreamFull(f"{topic}: {self.max_waiting} records wait for their reader")
            for topic, waiting in by_topic.items():
                server = self._on(topic)
                self._await_replicas(server)  # or each try would add the records once more
                pipe = server.pipeline(transaction=True)
                for record in waiting:
                    pipe.xadd(self._name(topic), _fields(record))
                pipe.execute()
                self._await_replicas(server)
                self._await_fsync(server)

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
            if after is not None and self._has_lost(topic, after):
                log.error("%s ends before %s: reading it from its beginning", topic, after)
                after = None
            answer: Any = self._on(topic).xread(
                {self._name(topic): after or "0-0"}, count=max_records, block=block
            )
        entries = answer[0][1] if answer else []
        return [_record(topic, offset, fields) for offset, fields in entries]

    def end_offset(self, topic: str, partition: int) -> str | None:
        with self._errors():
            newest: Any = self._on(topic).xrevrange(self._name(topic), count=1)
        return newest[0][0].decode() if newest else None

    def lag(self, topic: str, partition: int, after: str | None) -> int:
        """Of what is there: a reader trims what it has stored."""
        with self._errors():
            server = self._on(topic)
            waiting: Any = server.xlen(self._name(topic))
            if after is not None and waiting:  # one whose trim did not come through is still there
                waiting -= len(server.xrange(self._name(topic), max=after))
        return waiting

    def trim(self, topic: str, partition: int, upto: str) -> None:
        milliseconds, _, sequence = upto.partition("-")
        first_kept = f"{milliseconds}-{int(sequence or 0) + 1}"
        with self._errors():
            self._on(topic).xtrim(self._name(topic), minid=first_kept, approximate=False)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _on(self, topic: str) -> Any:
        """A client of the server that has the topic."""
        if self._client is None:
            self._client = open_client(self._url, **self._options)
        if not isinstance(self._client, RedisCluster):
            return self._client
        node = self._client.get_node_from_key(self._name(topic))
        if node is None:
            raise redis.ConnectionError(f"no node of the cluster has {self._name(topic)}")
        return self._client.get_redis_connection(node)

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

    def _await_replicas(self, server: Any) -> None:
        if not self._replicas:
            return
        having: int = server.wait(self._replicas, self._durable_ms)
        if having < self._replicas:
            raise StreamUnavailable(
                f"{having} of Redis's replicas had the events in time, and BURNISH_REDIS_REPLICAS asks"
                f" for {self._replicas}"
            )

    def _await_fsync(self, server: Any) -> None:
        if not self._asks_for_fsync:
            return
        try:
            on_disk: Any = server.waitaof(1, 0, self._durable_ms)
        except redis.ResponseError as error:
            # Either a server older than the command, or one without an append-only file.
            self._asks_for_fsync = False
            if not _fsyncs_always(server):
                log.warning("events are as durable as the Redis server is by itself: %s", error)
            return
        if on_disk[0] < 1:
            raise StreamUnavailable("Redis did not write its append-only file in time")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError, *_MOVED) as error:
            self.close()  # the next call asks anew who is the master
            raise StreamUnavailable(f"the Redis of BURNISH_REDIS_URL: {error}") from error
        except redis.OutOfMemoryError as error:
            raise StreamFull(f"the Redis of BURNISH_REDIS_URL: {error}") from error
        except redis.RedisError as error:
            raise StreamError(f"the Redis of BURNISH_REDIS_URL: {error}") from error


def _fsyncs_always(server: Any) -> bool:
    """Whether the server writes every command to disk before it answers, unasked."""
    try:
        told: Any = server.config_get("append*")
    except redis.ResponseError:  # hosted servers hide their configuration
        return False
    return told.get("appendonly") == "yes" and told.get("appendfsync") == "always"


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
