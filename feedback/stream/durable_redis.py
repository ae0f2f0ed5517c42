"""Redis as a store that keeps what it has acknowledged, one server or the nodes of a cluster.

Durable means: in the server's append-only file. Servers that can tell (Redis and Valkey from 7.2) are asked to
wait for the fsync; older ones have written a command to the operating system before they answer. With
`replicas` so many copies of the server must have it too (WAIT).

Calls come from one thread, so the pool hands out the same connection each time: WAIT and WAITAOF speak of
the writes of their own connection. On a cluster each key is spoken to on the node that has it, by a connection of
its own.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from burnish.feedback.errors import StreamError, StreamFull, StreamUnavailable
from burnish.feedback.redis_clients import open_client
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

# The server is no master any more, not yet, or not of this key.
_MOVED = (
    redis.ReadOnlyError,
    AskError,
    TryAgainError,
    ClusterDownError,
    MasterDownError,
    RedisClusterException,
)


class DurableRedis:
    """Connects at its first use; after an error it asks anew who is the master."""

    def __init__(self, url: str, *, durable_timeout_s: float = 5.0, replicas: int = 0) -> None:
        self._url, self._replicas = url, replicas
        self.durable_ms = int(durable_timeout_s * 1000)
        self._options = {
            # A server that hangs must look like one that is down.
            "socket_timeout": 2 * durable_timeout_s,
            "socket_connect_timeout": durable_timeout_s,
            # Once, for a connection gone stale; patience is the caller's.
            "retry": Retry(NoBackoff(), 1),
        }
        self._client: Any = None
        self._asks_for_fsync = True

    def on(self, key: str) -> Any:
        """A client of the server that has the key."""
        if self._client is None:
            self._client = open_client(self._url, **self._options)
        if not isinstance(self._client, RedisCluster):
            return self._client
        node = self._client.get_node_from_key(key)
        if node is None:
            raise redis.ConnectionError(f"no node of the cluster has {key}")
        return self._client.get_redis_connection(node)

    def await_replicas(self, server: Any) -> None:
        """Raises StreamUnavailable unless enough copies have what was written."""
        if not self._replicas:
            return
        having: int = server.wait(self._replicas, self.durable_ms)
        if having < self._replicas:
            raise StreamUnavailable(
                f"{having} of Redis's replicas had the events in time, and BURNISH_REDIS_REPLICAS asks"
                f" for {self._replicas}"
            )

    def await_fsync(self, server: Any) -> None:
        """Raises StreamUnavailable unless what was written is on disk, where the server can tell."""
        if not self._asks_for_fsync:
            return
        try:
            on_disk: Any = server.waitaof(1, 0, self.durable_ms)
        except redis.ResponseError as error:
            # Either a server older than the command, or one without an append-only file.
            self._asks_for_fsync = False
            if not _fsyncs_always(server):
                log.warning("events are as durable as the Redis server is by itself: %s", error)
            return
        if on_disk[0] < 1:
            raise StreamUnavailable("Redis did not write its append-only file in time")

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Redis's errors as the stream's."""
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
