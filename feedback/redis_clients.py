"""Clients of Redis by URL: one server, a master that Sentinels name, or a cluster.

    redis://[user:password@]host:port/0              rediss:// by TLS
    sentinel://[user:password@]host:26379,host:26379/MASTER[?db=0&sentinel_password=...]
    redis+cluster://[user:password@]host:6379,host:6379    rediss+cluster:// by TLS

Commands go to whoever is the master at the time. All that we keep under one key, or under one hash tag,
lies on one node of a cluster; nothing of ours spans several. Left out: reading from replicas, which may
not have what was just written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

import redis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException
from redis.sentinel import Sentinel

SENTINEL = ("sentinel",)
CLUSTER = ("redis+cluster", "rediss+cluster")


@dataclass(frozen=True)
class Servers:
    """A URL of several servers, taken apart. `master`: the name that the Sentinels know it by, or None
    for a cluster."""

    hosts: tuple[tuple[str, int], ...]
    master: str | None
    user: str | None = None
    password: str | None = None
    db: int = 0
    sentinel_password: str | None = None
    tls: bool = False

    @property
    def login(self) -> dict[str, Any]:
        return {"username": self.user, "password": self.password}

    @property
    def sentinel_login(self) -> dict[str, Any]:
        return {"password": self.sentinel_password} if self.sentinel_password else {}


def servers_of(url: str) -> Servers | None:
    """None for a URL of one server. Raises ValueError, which repeats no part of the URL."""
    scheme, _, rest = url.partition("://")
    if scheme not in (*SENTINEL, *CLUSTER):
        return None
    rest, _, query = rest.partition("?")
    login, at, where = rest.rpartition("@")
    addresses, _, path = where.partition("/")
    hosts = []
    for address in addresses.split(","):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError("every server of this URL is HOST:PORT")
        hosts.append((host.strip("[]"), int(port)))
    master = path.strip("/") or None
    if scheme in SENTINEL and master is None:
        raise ValueError("the path of a sentinel:// URL is the master's name, as /mymaster")
    if scheme in CLUSTER and (master or query):
        raise ValueError("a cluster's URL ends with its servers: it has one database")
    user, _, password = login.partition(":") if at else ("", "", "")
    options = parse_qs(query)
    if unknown := set(options) - {"db", "sentinel_password"}:
        raise ValueError(f"{min(unknown)} is not an option of this URL")
    return Servers(
        hosts=tuple(hosts),
        master=master,
        user=unquote(user) or None,
        password=unquote(password) or None,
        db=int(options.get("db", ["0"])[0]),
        sentinel_password=options.get("sentinel_password", [None])[0],
        tls=scheme.startswith("rediss"),
    )


def open_client(url: str, **options: Any) -> Any:
    """A `redis.Redis`, or its like of a cluster; `options` are redis-py's. Connects at its first use,
    but a cluster's client at once. Raises redis.RedisError."""
    servers = servers_of(url)
    if servers is None:
        return redis.Redis.from_url(url, **options)
    if servers.master is not None:
        sentinel = Sentinel(servers.hosts, sentinel_kwargs=_patience(servers, options))
        return sentinel.master_for(servers.master, db=servers.db, **servers.login, **options)
    nodes = [ClusterNode(*host) for host in servers.hosts]
    try:
        return _Cluster(startup_nodes=nodes, ssl=servers.tls, **servers.login, **options)
    except RedisClusterException as error:
        raise redis.ConnectionError(str(error)) from error


def open_async_client(url: str, **options: Any) -> Any:
    """The same for asyncio; it connects at its first use."""
    servers = servers_of(url)
    if servers is None:
        return redis.asyncio.Redis.from_url(url, **options)
    if servers.master is not None:
        patience = _patience(servers, options)
        sentinel = redis.asyncio.Sentinel(servers.hosts, sentinel_kwargs=patience)
        return sentinel.master_for(servers.master, db=servers.db, **servers.login, **options)
    nodes = [AsyncClusterNode(*host) for host in servers.hosts]
    return _AsyncCluster(startup_nodes=nodes, ssl=servers.tls, **servers.login, **options)


def broker_of(url: str) -> tuple[str, dict[str, Any]]:
    """The URL as Celery takes a broker, and its transport options. Raises ValueError for a cluster,
    which Celery does not work on."""
    servers = servers_of(url)
    if servers is None:
        return url, {}
    if servers.master is None:
        raise ValueError(
            "Celery cannot keep its queues on a cluster: name a Redis or Sentinels for them here,"
            " beside the cluster of BURNISH_REDIS_URL"
        )
    scheme, _, rest = url.partition("?")[0].partition("://")
    login = "".join(rest.rpartition("@")[:2])
    sentinels = [f"{scheme}://{login}{host}:{port}/{servers.db}" for host, port in servers.hosts]
    return ";".join(sentinels), {
        "master_name": servers.master,
        "sentinel_kwargs": servers.sentinel_login,
    }


def _patience(servers: Servers, options: dict[str, Any]) -> dict[str, Any]:
    """A Sentinel that hangs is passed over as soon as a server would be."""
    waits = ("socket_timeout", "socket_connect_timeout")
    given = {name: value for name, value in options.items() if name in waits}
    return {"socket_connect_timeout": 2, "socket_timeout": 2} | given | servers.sentinel_login


class _Cluster(RedisCluster):
    """Its own exceptions are no RedisError, though they say that nodes are away."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error


class _AsyncCluster(redis.asyncio.RedisCluster):
    async def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().execute_command(*args, **options)
        except RedisClusterException as error:
            raise redis.ConnectionError(str(error)) from error
