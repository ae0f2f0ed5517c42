"""The parts of a fleet on one machine, each of which a benchmark may kill and start again.

Two replicas of serving behind nginx, three Kafka brokers, a Redis Cluster of three nodes and a Redis for
Celery's queues, PostgreSQL, two intake workers, a publisher of rewards, an updater and beat. All listen on free ports of 127.0.0.1;
a part that starts again has its port and its data.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis
from burnish.feedback.contract import INTAKE_QUEUE, REWARD_QUEUE, UPDATE_QUEUE
from burnish.ops import settings as config
from burnish.ops.bench.lib.postgres import Postgres, installed, run_postgres
from burnish.ops.bench.lib.service import BenchError, cpu_seconds
from burnish.ops.kafka.cluster import KafkaCluster
from burnish.ops.kafka.node import KafkaNode
from burnish.ops.settings import free_port
from burnish.ops.supervisor.services import http_ok, redis_binary
from burnish.serving.api.keys import KeyStore
from burnish.serving.registry import PolicyRegistry, prepare, signing_keys

NGINX_CONF = Path(config.__file__).with_name("nginx.conf")
REDIS_NODES, SLOTS = 3, 16384
START_S = 240.0
TENANT = "bench"


class Process:
    """A command in a process group of its own."""

    def __init__(
        self, name: str, argv: Sequence[str], folder: Path, env: Mapping[str, str],
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        self.name, self.is_ready = name, is_ready
        self._argv, self._env, self.log = argv, env, folder / f"{name}.log"
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self._argv, env={**os.environ, **self._env}, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self, patience_s: float = 45.0) -> None:
        """SIGTERM; SIGKILL to what is left then."""
        self._end(signal.SIGTERM, patience_s)

    def signal(self, sig: signal.Signals) -> None:
        if self._popen is not None and self._popen.poll() is None:
            os.killpg(self._popen.pid, sig)

    @property
    def pid(self) -> int:
        assert self._popen is not None, f"{self.name} was not started"
        return self._popen.pid

    def cpu(self) -> float:
        return 0.0 if self._popen is None else cpu_seconds(self._popen.pid)

    def _end(self, sig: signal.Signals, patience_s: float = 10.0) -> None:
        if self._popen is None:
            return
        self.signal(sig)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(patience_s)
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._popen = None


@dataclass
class Broker:
    """A Kafka node as a part."""

    name: str
    node: KafkaNode

    def start(self) -> None:
        self.node.launch()

    def kill(self) -> None:
        self.node.kill()

    def is_ready(self) -> bool:
        if self.node.process is None or self.node.process.poll() is not None:
            raise BenchError(f"{self.name} has ended; see {self.node.log_file}")
        return self.node._answers()

    def cpu(self) -> float:
        return 0.0 if self.node.process is None else cpu_seconds(self.node.process.pid)


@dataclass
class Database:
    """PostgreSQL as a part: experience, API keys, and MLflow's registry."""

    name: str
    server: Postgres

    def start(self) -> None:
        deadline = time.monotonic() + START_S
        while True:  # its shared memory may outlive it for a moment
            try:
                self.server.start()
                return
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def kill(self) -> None:
        self.server.signal(signal.SIGKILL)

    def is_ready(self) -> bool:
        try:
            with psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=2):
                return True
        except psycopg.Error:
            return False

    @property
    def url(self) -> str:
        return self.server.url

    def cpu(self) -> float:
        return 0.0


Part = Process | Broker | Database


@dataclass
class Replica:
    url: str
    process: Process


@dataclass
class Fleet:
    url: str  # of the load balancer
    key: str
    replicas: list[Replica]
    parts: dict[str, Part]
    database_url: str
    registry: PolicyRegistry
    env: Mapping[str, str] = field(repr=False, default_factory=dict)

    def wait_for(self, name: str, timeout_s: float = START_S) -> float:
        """Seconds until a part is ready."""
        began = time.monotonic()
        while not self.parts[name].is_ready():
            if time.monotonic() - began > timeout_s:
                raise BenchError(f"{name} was not ready within {timeout_s:.0f} s")
            time.sleep(0.1)
        return time.monotonic() - began


@contextmanager
def run_fleet(folder: Path, *, update_every: float) -> Iterator[Fleet]:
    """Everything started and ready; stopped at the end. Raises BenchError for what is not installed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    binaries, nginx = installed(), find_nginx()
    if binaries is None or nginx is None:
        raise BenchError("the fleet needs PostgreSQL and nginx (Debian: postgresql, nginx)")
    with ExitStack() as stack:
        cluster = KafkaCluster(folder / "kafka", heap_mb=256)
        stack.callback(cluster.stop)
        for node in cluster.nodes:
            node.launch()
        postgres = stack.enter_context(run_postgres(binaries))
        with psycopg.connect(postgres.url.replace("+psycopg", ""), autocommit=True) as db:
            db.execute("CREATE DATABASE mlflow")
        nodes = [_redis(folder, f"redis-{n}", cluster=True) for n in range(1, REDIS_NODES + 1)]
        queues = _redis(folder, "queues")
        for server in (*nodes, queues):
            stack.callback(server.process.kill)
            server.process.start()
        _join(nodes)
        env = _environment(folder, cluster, postgres, nodes, queues, update_every)
        key = KeyStore(folder / "unused", url=postgres.url).create(
            TENANT, ("chat", "feedback", "memory", "admin")
        )
        prepare(env["BURNISH_MLFLOW_URI"], env["BURNISH_MLFLOW_ARTIFACTS"])
        parts: dict[str, Part] = {
            f"broker-{n}": Broker(f"broker-{n}", node) for n, node in enumerate(cluster.nodes, 1)
        }
        parts |= {server.process.name: server.process for server in (*nodes, queues)}
        parts["postgres"] = Database("postgres", postgres)
        fleet = Fleet("", key, [], parts, postgres.url, _registry(env), env)
        for name in [f"broker-{n}" for n in range(1, len(cluster.nodes) + 1)]:
            fleet.wait_for(name)
        fleet.replicas = [_replica(folder, name, env) for name in ("serving-a", "serving-b")]
        for process in [*(r.process for r in fleet.replicas), *_learner(folder, env)]:
            parts[process.name] = process
            stack.callback(process.stop)
            process.start()
        balancer, fleet.url = _balancer(nginx, folder, [r.url for r in fleet.replicas])
        stack.callback(balancer.stop, 5.0)
        balancer.start()
        for replica in fleet.replicas:
            fleet.wait_for(replica.process.name)
        yield fleet


@dataclass
class _Redis:
    port: int
    process: Process


def _redis(folder: Path, name: str, cluster: bool = False) -> _Redis:
    home, port = folder / name, free_port()
    home.mkdir(parents=True)
    argv = [redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home)]
    argv += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    if cluster:
        argv += ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        # A node that is away takes only its own slots with it.
        argv += ["--cluster-require-full-coverage", "no", "--cluster-node-timeout", "2000"]

    def is_ready() -> bool:
        try:
            with redis.Redis(port=port, socket_timeout=1) as client:
                if not client.ping():
                    return False
                return not cluster or "cluster_state:ok" in str(
                    client.execute_command("CLUSTER", "INFO")
                )
        except redis.RedisError:
            return False

    return _Redis(port, Process(name, argv, folder, {}, is_ready))


def _join(nodes: Sequence[_Redis]) -> None:
    """Share the slots among the nodes, and wait until all know of it."""
    deadline = time.monotonic() + START_S
    first = None
    for number, node in enumerate(nodes):
        with redis.Redis(port=node.port) as client:
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            begin = number * SLOTS // len(nodes)
            end = (number + 1) * SLOTS // len(nodes) - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", begin, end)
            if first is not None:
                bus = first.process._argv[list(first.process._argv).index("--cluster-port") + 1]
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port, bus)
        first = first or node
    while not all(node.process.is_ready() and _knows_all(node, len(nodes)) for node in nodes):
        if time.monotonic() > deadline:
            raise BenchError("the Redis Cluster did not come together")
        time.sleep(0.1)


def _knows_all(node: _Redis, count: int) -> bool:
    with redis.Redis(port=node.port) as client:
        told = str(client.execute_command("CLUSTER", "INFO"))
    return f"cluster_known_nodes:{count}" in told and f"cluster_slots_ok:{SLOTS}" in told


def _environment(
    folder: Path, cluster: KafkaCluster, postgres: Postgres, nodes: Sequence[_Redis],
    queues: _Redis, update_every: float,
) -> dict[str, str]:  # fmt: skip
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    return {
        "BURNISH_HOST": "127.0.0.1",
        "BURNISH_MODEL": str(config.EMBER.resolve()),
        "BURNISH_FLEET": "true",
        "BURNISH_SECRET": secrets.token_hex(16),
        "BURNISH_SIGNING_KEY": secrets.token_hex(16),
        "BURNISH_REDIS_URL": f"redis+cluster://{hosts}",
        "BURNISH_BROKER_URL": f"redis://127.0.0.1:{queues.port}/0",
        "BURNISH_KAFKA_BOOTSTRAP": cluster.bootstrap,
        "BURNISH_DATABASE_URL": postgres.url,
        "BURNISH_KEYS_URL": postgres.url,
        "BURNISH_MLFLOW_URI": postgres.url.rsplit("/", 1)[0] + "/mlflow",
        "BURNISH_MLFLOW_ARTIFACTS": (folder / "artifacts").resolve().as_uri(),
        "BURNISH_UPDATE_EVERY": str(update_every),
        "BURNISH_THREADS": "1",
        **{f"{lib}_NUM_THREADS": "1" for lib in ("OMP", "MKL", "OPENBLAS")},
        "MALLOC_ARENA_MAX": "2",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONWARNINGS": "ignore",
    }


def _registry(env: Mapping[str, str]) -> PolicyRegistry:
    os.environ["BURNISH_SIGNING_KEY"] = env["BURNISH_SIGNING_KEY"]
    return PolicyRegistry(
        env["BURNISH_MLFLOW_URI"],
        env["BURNISH_MLFLOW_ARTIFACTS"],
        keys=signing_keys(Path("unused")),
    )


def _replica(folder: Path, name: str, env: Mapping[str, str]) -> Replica:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    own = {"BURNISH_PORT": str(port), "BURNISH_DATA_DIR": str(folder / name)}
    argv = [sys.executable, "-m", "burnish.serving"]
    return Replica(
        url, Process(name, argv, folder, {**env, **own}, lambda: http_ok(f"{url}/readyz"))
    )


def _learner(folder: Path, env: Mapping[str, str]) -> list[Process]:
    own = {**env, "BURNISH_DATA_DIR": str(folder / "learner"), "REMAP_SIGTERM": "SIGQUIT"}
    celery = [sys.executable, "-m", "celery", "-q", "-A", "burnish.learner.app:app"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]

    def worker(name: str, queue: str, *pool: str) -> Process:
        argv = [*celery, "worker", "-Q", queue, *pool, "-n", f"{name}@%h", *quiet]
        return Process(name, argv, folder, own)

    return [
        worker("intake-1", INTAKE_QUEUE, "-P", "solo"),
        worker("intake-2", INTAKE_QUEUE, "-P", "solo"),
        worker("reward", REWARD_QUEUE, "-P", "solo"),
        worker("updater", UPDATE_QUEUE, "-c", "1"),
        Process("beat", [*celery, "beat", "--pidfile=", "--loglevel", "WARNING"], folder, own),
    ]


def _balancer(nginx: str, folder: Path, urls: Sequence[str]) -> tuple[Process, str]:
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(nginx_conf(port, urls))
    argv = [nginx, "-e", "stderr", "-p", str(folder), "-c", str(conf), "-g", nginx_globals(folder)]
    return Process("nginx", argv, folder, {}), f"http://127.0.0.1:{port}"


def find_nginx() -> str | None:
    """Debian keeps it where only root's PATH leads."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def nginx_conf(port: int, urls: Sequence[str]) -> str:
    """ops/nginx.conf, listening on `port`, over two replicas."""
    text = NGINX_CONF.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    for example, url in zip(("8081", "8082"), urls, strict=True):
        text = text.replace(f"127.0.0.1:{example}", url.removeprefix("http://"))
    paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temp = "".join(f"  {name}_temp_path {name};\n" for name in paths)
    return text.replace("http {\n", "http {\n" + temp, 1)


def nginx_globals(folder: Path) -> str:
    """In the foreground, as whoever starts it."""
    user = "user root; " if os.geteuid() == 0 else ""
    return f"{user}daemon off; pid {folder}/nginx.pid; error_log stderr crit;"
