"""ops/compose.yaml as a project of its own on a Docker Engine: its containers, ports and secrets.

The images are those that ops/.env and the environment name, as for `docker compose` itself.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from pathlib import Path

from burnish.ops.settings import free_port

COMPOSE = Path(__file__).parents[2] / "compose.yaml"
STORES = ("redis", "postgres", "kafka")
OURS = ("serving", "intake", "reward", "worker", "beat", "mlflow")


class ContainerError(RuntimeError):
    """A command of Docker failed; the message is the end of what it said."""


def engine_version() -> str | None:
    """Of the Docker Engine that answers, beside Docker Compose; None where one of them is missing."""
    try:
        subprocess.run(
            ["docker", "compose", "version"], capture_output=True, check=True, timeout=10
        )
        return _docker("version", "--format", "{{.Server.Version}}", timeout=10).strip()
    except (OSError, subprocess.SubprocessError, ContainerError):
        return None


class Project:
    """The containers of one run, with volumes, published ports and passwords of their own."""

    def __init__(self, name: str, **env: str):
        self.name = name
        self.port = free_port()
        self._env = {
            **os.environ,
            **{f"{store}_PASSWORD": secrets.token_hex(16) for store in ("REDIS", "POSTGRES", "MLFLOW")},
            "PUBLISH_PORT": f"127.0.0.1:{self.port}",
            "MLFLOW_PORT": str(free_port()),
            **env,
        }  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __call__(self, *arguments: str) -> str:
        """`docker compose ARGUMENTS`; returns what it printed. Raises ContainerError."""
        return _docker("compose", "-p", self.name, "-f", str(COMPOSE), *arguments, env=self._env)

    def states(self) -> dict[str, str]:
        """Of each container: running, healthy, restarting, ... or `exited 0`."""
        found = {}
        for line in self("ps", "--all", "--format", "json").splitlines():
            row = json.loads(line)
            told = f"exited {row['ExitCode']}" if row["State"] == "exited" else row["State"]
            found[row["Service"]] = row["Health"] or told
        return found

    def images(self) -> dict[str, str]:
        """The image of each service, by name."""
        services = json.loads(self("config", "--format", "json"))["services"]
        return {name: service["image"] for name, service in services.items()}

    def kill(self, service: str) -> None:
        """SIGKILL. Ours are started again by their restart policy; Docker takes the end of a store,
        which is its container's first process, for one that was wanted, so it is started here."""
        if service in OURS:
            self("exec", "-T", service, "sh", "-c", "kill -9 -1; true")
        else:
            self("kill", "-s", "KILL", service)
            self("start", service)

    def started_at(self, service: str) -> str:
        """When its container's process was last started."""
        container = self("ps", "--all", "--quiet", service).strip()
        return _docker("inspect", "--format", "{{.State.StartedAt}}", container).strip()

    def judgements(self) -> set[str]:
        """Ids of all votes in the experience database."""
        query = ["psql", "-U", "burnish", "-Atc", "select id from judgement"]
        return set(self("exec", "-T", "postgres", *query).split())


def image_mb(name: str) -> float:
    size = _docker("image", "inspect", "--format", "{{.Size}}", name)
    return round(int(size) / 1e6, 1)


def _docker(*arguments: str, env: dict[str, str] | None = None, timeout: float = 3600) -> str:
    done = subprocess.run(
        ["docker", *arguments], env=env, capture_output=True, text=True, timeout=timeout
    )
    if done.returncode:
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).strip().splitlines()[-15:]
        raise ContainerError(f"docker {' '.join(arguments)}:\n" + "\n".join(said))
    return done.stdout
