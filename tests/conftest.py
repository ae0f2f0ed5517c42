"""Real servers for the tests: Redis, Kafka, PostgreSQL; and the tiny model.

Each server is started at most once per run, on a free port, and stopped at the end. A server that is
not installed skips its tests on a laptop; with CI=true that skip is a failure (tests/ci_skips.py).
"""

import os

# Two processes share the tests (`make test`): each thread that another one has to wait for is lost.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
import redis
import torch
from burnish.kernels.cpu.target import available
from burnish.ops.bench.lib.small_disk import SmallDisk, mount_small_disk
from hypothesis import settings

from tests.ci_skips import (  # noqa: F401 - hooks
    pytest_make_collect_report,
    pytest_runtest_makereport,
)

if TYPE_CHECKING:
    from burnish.ops.kafka.cluster import KafkaCluster

# Without a GPU its kernels run in Triton's interpreter, which must be said before Triton is imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# What a machine would choose by timing itself is no matter of the tests: they take the native library.
os.environ.setdefault("BURNISH_CPU", available()[0])

# A busy machine is no failure, and the whole run has to stay quick.
settings.register_profile("burnish", deadline=None, max_examples=60)
settings.load_profile("burnish")


# Files that take minutes come first, so that no process is left with one of them at the end; in an
# order in which what starts a whole service shares the machine with what only computes.
LONGEST_FILES = (
    "tests/ops/supervisor/test_up.py",
    "tests/kernels/cuda/test_step.py",
    "tests/ops/commands/test_kernels.py",
    "tests/kernels/cuda/test_compiling.py",
    "tests/learner/update/test_crashes.py",
    "tests/test_loop.py",
    "tests/ops/test_doors.py",
    "tests/learner/update/test_tick.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0]
        return LONGEST_FILES.index(file) if file in LONGEST_FILES else len(LONGEST_FILES)

    items.sort(key=rank)


def missing(what: str) -> NoReturn:
    """Skip the test for want of a server; a failure with CI=true."""
    pytest.skip(what)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# -- Redis -----------------------------------------------------------------------------------


class RedisServer:
    """One server on a folder, with an append-only file as in production. May be killed and
    started again: same port, same data."""

    def __init__(self, binary: str, folder: Path, **options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._log = folder / "server.log"
        self._command = [binary, "--port", str(self.port), "--dir", str(folder)]
        defaults = {"bind": "127.0.0.1", "appendonly": "yes", "save": ""}
        for name, value in {**defaults, **options}.items():
            self._command += [f"--{name}", value]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        client = redis.Redis.from_url(self.url)
        deadline = time.monotonic() + 60
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(self._log.read_text())
                time.sleep(0.02)
        client.close()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _redis_binary() -> str:
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        missing("redis-server is not installed (Debian: redis-server)")
    return binary


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server; databases 0 to 15."""
    server = RedisServer(_redis_binary(), tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """An empty server: everything in it is flushed before and after the test."""
    client = redis.Redis.from_url(redis_url)
    client.flushall()
    yield client
    client.flushall()
    client.close()


@pytest.fixture
def redis_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for one test alone, which may kill it."""
    server = RedisServer(_redis_binary(), tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


# -- Kafka -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real broker for the whole run. Topics outlive a test: use names of your own."""
    from burnish.ops.kafka.node import KafkaMissing, KafkaNode

    node = KafkaNode(tmp_path_factory.mktemp("kafka"), heap_mb=320)
    try:
        node.start(timeout=200)
    except KafkaMissing as error:
        missing(str(error))
    yield node.bootstrap
    node.stop()


@pytest.fixture(scope="module")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[KafkaCluster]":
    """Three brokers for the tests of one file, which may kill some and start them again."""
    from burnish.ops.kafka.cluster import KafkaCluster
    from burnish.ops.kafka.node import KafkaMissing

    cluster = KafkaCluster(tmp_path_factory.mktemp("kafka-cluster"), heap_mb=256)
    try:
        cluster.start(timeout=280)
    except KafkaMissing as error:
        missing(str(error))
    yield cluster
    cluster.stop()


# -- PostgreSQL ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A private cluster. Yields the URL of its `postgres` database."""
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    if not homes:
        missing("PostgreSQL is not installed (Debian: postgresql)")
    home = homes[-1]
    # Not below pytest's folder: that one is closed to the user that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="burnish-postgres-"))
    # The server refuses to run as root, which is who runs tests in a container.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres", "postgres")

    def run(*command: str) -> None:
        done = subprocess.run(
            [*as_user, *command], cwd=folder, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            pytest.fail(f"{command}: {done.stdout}{done.stderr}")

    data, port = folder / "data", free_port()
    run(str(home / "initdb"), "-D", str(data), "-U", "burnish", "-A", "trust", "-E", "UTF8", "-N")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    pg_ctl = str(home / "pg_ctl")
    # pg_ctl's child keeps the pipes of its parent: with a log file it lets go of them.
    run(pg_ctl, "-D", str(data), "-l", str(folder / "log"), "-o", options, "-w", "start")
    yield f"postgresql+psycopg://burnish@127.0.0.1:{port}/postgres"
    run(pg_ctl, "-D", str(data), "-m", "immediate", "-w", "stop")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty database of its own for each test, as a SQLAlchemy URL (psycopg 3)."""
    import psycopg

    name = f"test_{time.monotonic_ns()}"
    admin = postgres_server.replace("+psycopg", "")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    yield postgres_server.rsplit("/", 1)[0] + f"/{name}"
    with contextlib.suppress(psycopg.Error), psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


# -- Disks -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 48 MB, which a test may fill."""
    try:
        disk = mount_small_disk(tmp_path / "disk", megabytes=48)
    except OSError as error:
        missing(f"a small file system could not be mounted: {error}")
    yield disk
    disk.unmount()


# -- Models ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random mixture-of-experts model with a tokenizer."""
    from tests.tiny_model import build_tiny_model

    return build_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The file of SmolLM2-135M-Instruct, a language model that people do run."""
    from burnish.ops.models import ModelMissing, resolve

    try:
        return resolve(Path("smollm2"))
    except ModelMissing as missing:
        pytest.skip(str(missing))
