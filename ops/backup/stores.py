"""Where a service keeps what: its data folder, Redis, databases and registry, running or not."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from burnish.feedback.redis_clients import CLUSTER, open_client
from burnish.ops.commands.client import ServiceError
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import run_state
from burnish.ops.supervisor.services import plan_launch, redis_service, redis_url

# Of a data folder: made anew by the next start, or a store of its own that is copied by its own way.
NOT_COPIED = (
    "lock", "run.json", "prepared", "logs", "traces", "fetched", "adapters", "prometheus", "redis",
    "kafka", "experience.db", "mlflow",
)  # fmt: skip


@dataclass(frozen=True)
class Registry:
    """MLflow's database, a SQLite file or a URL of PostgreSQL, and the folder of its artifacts."""

    database: str | Path
    artifacts: Path


def registry_of(
    settings: UpSettings, database: str | None = None, artifacts: Path | None = None
) -> Registry:
    """What the settings name; behind an MLflow server only who runs it knows. Raises ServiceError."""
    folder = settings.data_dir.resolve() / "mlflow"
    uri = database or settings.mlflow_uri
    if uri is None:
        return Registry(folder / "mlflow.db", artifacts or folder / "artifacts")
    if uri.startswith(("http://", "https://")) or artifacts is None:
        raise ServiceError(
            "the registry is not in the data folder: name its database and the folder of its artifacts,"
            " --mlflow-database postgresql://... --mlflow-artifacts FOLDER"
        )
    if uri.startswith("sqlite:///"):
        return Registry(Path(uri.removeprefix("sqlite:///")), artifacts)
    return Registry(uri, artifacts)


@contextmanager
def redis_of(settings: UpSettings) -> Iterator[redis.Redis]:
    """The Redis that the settings name, the running service's, or the data folder's own, started for
    the purpose. Raises ServiceError."""
    folder = settings.data_dir.resolve()
    running = run_state.running(folder)
    if settings.redis_url is not None:
        if settings.redis_url.startswith(CLUSTER):
            raise ServiceError(
                "a Redis cluster is not copied: back up its nodes by their own means"
            )
        yield from _client(settings.redis_url)
    elif running is not None:
        assert running.redis_port is not None  # without one, the settings would name a Redis
        yield from _client(redis_url(folder, running.redis_port))
    else:
        with _own_redis(settings) as url:
            yield from _client(url)


def _client(url: str) -> Iterator[Any]:
    client = open_client(url, socket_timeout=120, socket_connect_timeout=5)
    try:
        client.ping()
        yield client
    except redis.ConnectionError as error:
        raise ServiceError(f"Redis does not answer: {error}") from error
    finally:
        client.close()


@contextmanager
def _own_redis(settings: UpSettings, seconds: float = 120.0) -> Iterator[str]:
    plan = plan_launch(settings)
    spec = redis_service(plan)
    lock = run_state.lock(plan.data_dir)
    server = subprocess.Popen(spec.argv, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + seconds
        while spec.ready is not None and not spec.ready():
            if server.poll() is not None or time.monotonic() > deadline:
                raise ServiceError(f"the Redis of {plan.data_dir} does not start")
            time.sleep(0.05)
        yield plan.env["BURNISH_REDIS_URL"]
    finally:
        server.terminate()  # it writes its append-only file out first
        server.wait()
        os.close(lock)
