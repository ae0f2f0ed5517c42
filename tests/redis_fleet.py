"""Real Sentinels and a real Redis Cluster, whose servers a test may kill."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import redis

from tests.conftest import RedisServer, free_port, missing
from tests.waiting import eventually

MASTER = "burnish"
PASSWORD = "a/secret"


def binary() -> str:
    found = shutil.which("redis-server")
    if found is None:
        missing("redis-server is not installed (Debian: redis-server)")
    return found


class Server(RedisServer):
    """A server with a password, whose replicas log in with it."""

    def __init__(self, folder: Path, **options: str) -> None:
        folder.mkdir(parents=True)
        login = {"requirepass": PASSWORD, "masterauth": PASSWORD}
        # A copy begins to follow at once, not when the next child has saved a file.
        quick = {"repl-diskless-sync-delay": "0", "appendfsync": "always"}
        super().__init__(binary(), folder, **login, **quick, **options)
        self.url = self.url.replace("//", "//:a%2Fsecret@")
        self.alive = False

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        eventually(lambda: self.asks("PING"), 30)
        self.alive = True

    def kill(self) -> None:
        super().kill()
        self.alive = False

    def is_copied(self) -> bool:
        """Whether every replica has what this master has."""
        told = self.asks("INFO", "replication") or {}
        copies = [told[f"slave{n}"]["offset"] for n in range(told.get("connected_slaves", 0))]
        return bool(copies) and min(copies) >= told["master_repl_offset"]

    def asks(self, *command: Any) -> Any:
        """The answer; None while it does not give one."""
        client = redis.Redis(port=self.port, password=PASSWORD, socket_timeout=2)
        try:
            return client.execute_command(*command)
        except redis.RedisError:
            return None
        finally:
            client.close()


class SentinelFleet:
    """A master, two replicas, three Sentinels that fail over within some two seconds."""

    def __init__(self, folder: Path) -> None:
        self.servers = [Server(folder / "a")]
        master = f"127.0.0.1 {self.servers[0].port}"
        self.servers += [Server(folder / name, replicaof=master) for name in ("b", "c")]
        self._folder, self._sentinels = folder, []
        self.ports = [free_port() for _ in range(3)]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"sentinel://:a%2Fsecret@{hosts}/{MASTER}"

    def start(self) -> None:
        for server in self.servers:
            server.start()
        eventually(lambda: self._replicas(self.servers[0]) == 2, 30)
        for port in self.ports:
            conf = self._folder / f"sentinel-{port}.conf"
            conf.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {self._folder}\n"
                f"sentinel monitor {MASTER} 127.0.0.1 {self.servers[0].port} 2\n"
                f"sentinel auth-pass {MASTER} {PASSWORD}\n"
                f"sentinel down-after-milliseconds {MASTER} 1000\n"
                f"sentinel failover-timeout {MASTER} 5000\n"
            )
            with (self._folder / f"sentinel-{port}.log").open("wb") as log:
                command = [binary(), str(conf), "--sentinel"]
                self._sentinels.append(subprocess.Popen(command, stdout=log, stderr=log))
        eventually(lambda: all(self._knows(port) for port in self.ports), 60)

    def _knows(self, port: int) -> bool:
        client = redis.Redis(port=port, socket_timeout=2)
        try:
            told: Any = client.sentinel_master(MASTER)
        except redis.RedisError:
            return False
        finally:
            client.close()
        return told["num-slaves"] == 2 and told["num-other-sentinels"] == 2

    @staticmethod
    def _replicas(server: Server) -> int:
        return int((server.asks("INFO", "replication") or {}).get("connected_slaves", 0))

    def master(self) -> Server | None:
        """Whom the first Sentinel names, if it lives and knows."""
        client = redis.Redis(port=self.ports[0], socket_timeout=2)
        try:
            _, port = client.sentinel_get_master_addr_by_name(MASTER)  # type: ignore[misc]
        finally:
            client.close()
        (server,) = [one for one in self.servers if one.port == int(port)]
        role = server.asks("ROLE") if server.alive else None
        return server if role and role[0] in (b"master", "master") else None

    def stop(self) -> None:
        for sentinel in self._sentinels:
            sentinel.terminate()
            sentinel.wait(20)
        for server in self.servers:
            server.kill()


class ClusterFleet:
    """Three masters and a replica of each."""

    def __init__(self, folder: Path) -> None:
        self.servers = [
            Server(
                folder / f"node-{n}",
                **{
                    "cluster-enabled": "yes",
                    "cluster-port": str(free_port()),
                    "cluster-node-timeout": "1500",
                    "cluster-replica-validity-factor": "0",
                },
            )
            for n in range(6)
        ]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:3])
        return f"redis+cluster://:a%2Fsecret@{hosts}"

    def start(self) -> None:
        for server in self.servers:
            server.start()
        first = self.servers[0]
        for n, server in enumerate(self.servers):
            bus = server._command[server._command.index("--cluster-port") + 1]
            assert first.asks("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
            if n < 3:
                begin, end = n * 5461, (n + 1) * 5461 - 1 if n < 2 else 16383
                assert server.asks("CLUSTER", "ADDSLOTSRANGE", begin, end)
        eventually(lambda: all(self._met(server) for server in self.servers), 30)
        for n, server in enumerate(self.servers[3:]):
            name = self.servers[n].asks("CLUSTER", "MYID")
            eventually(lambda s=server, i=name: s.asks("CLUSTER", "REPLICATE", i), 30)
        eventually(self.whole, 60)

    @staticmethod
    def _met(server: Server) -> bool:
        return "cluster_known_nodes:6" in str(server.asks("CLUSTER", "INFO"))

    def whole(self) -> bool:
        """Every slot is served, and every master has a copy that follows."""
        for server in self.servers:
            if "cluster_state:ok" not in str(server.asks("CLUSTER", "INFO")):
                return False
            told = server.asks("INFO", "replication") or {}
            following = told.get("master_link_status") == "up"
            if not (following or int(told.get("connected_slaves", 0)) >= 1):
                return False
        return True

    def owner(self, key: str) -> Server | None:
        """The living master that has the key."""
        for server in self.servers:
            if server.alive and server.asks("EXISTS", key) is not None:
                role = server.asks("ROLE")
                if role and role[0] in (b"master", "master"):
                    return server
        return None

    def stop(self) -> None:
        for server in self.servers:
            server.kill()
