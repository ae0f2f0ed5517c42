"""No secret is in what the service's processes write, say or are called: all of them fail here,
each at a server that is away, with a password planted in everything that may hold one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2 as httpx
import pytest
from burnish.ops.settings import free_port
from burnish.serving.api.keys import KeyStore

from tests.waiting import eventually

PLANTED = "hunter2"  # in every secret
ALL_ROUTES = ("/readyz", "/healthz", "/version", "/metrics", "/v1/policies", "/v1/models")
ALL_ROUTES += ("/v1/learner", "/v1/policies/default", "/v1/memory/sessions/s/events")


def secret(name: str) -> str:
    return f"{name}-{PLANTED}:x"


@dataclass
class Processes:
    """Processes of one service, and all that they said."""

    data_dir: Path
    env: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    called: list[bytes] = field(default_factory=list)

    def start(self, name: str, *argv: str, **env: str) -> subprocess.Popen[bytes]:
        log = self.data_dir / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *argv],
                env={**self.env, **env},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.data_dir / "logs" / f"{name}.log").read_text(errors="replace")

    def note_commands(self) -> None:
        """How every process is called, and those that it started."""
        groups = {process.pid for process in self.running}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getpgid(int(folder.name)) in groups:
                    self.called.append((folder / "cmdline").read_bytes())

    def said(self) -> dict[str, str]:
        """Everything written below the data folder but the secrets themselves, and every command."""
        files = {
            str(path): path.read_bytes().decode(errors="replace")
            for path in self.data_dir.rglob("*")
            if path.is_file() and path.name != "keys.sqlite"
        }
        return {**files, "commands": b"\n".join(self.called).decode(errors="replace")}

    def stop(self) -> None:
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def processes(tmp_path: Path, tiny_model: Path) -> Iterator[Processes]:
    away = free_port()
    planted = {
        "BURNISH_DATA_DIR": str(tmp_path),
        "BURNISH_MODEL": str(tiny_model),
        "BURNISH_PORT": str(free_port()),
        "BURNISH_REDIS_URL": f"redis://:{secret('redis')}@127.0.0.1:{away}/0",
        "BURNISH_KAFKA_BOOTSTRAP": f"SASL_PLAINTEXT://ann:{secret('kafka')}@127.0.0.1:{away}",
        "BURNISH_DATABASE_URL": f"postgresql://ann:database-{PLANTED}@127.0.0.1:{away}/burnish",
        "BURNISH_MLFLOW_URI": f"http://ann:mlflow-{PLANTED}@127.0.0.1:{away}",
        "BURNISH_SECRET": secret("ids"),
        "BURNISH_SIGNING_KEY": secret("signing"),
        "BURNISH_MLFLOW_PASSWORD": secret("page"),
        "BURNISH_TINKER_KEY": f"tml-{secret('tinker')}",
        "MLFLOW_TRACKING_PASSWORD": secret("tracking"),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BURNISH_", "MLFLOW_"))}
    made = Processes(tmp_path, {**kept, **planted})
    yield made
    made.stop()


def test_no_secret_is_logged_said_or_part_of_a_command(processes: Processes) -> None:
    key = KeyStore(processes.data_dir / "keys.sqlite").create("acme", ("chat", "admin", "memory"))
    celery = ("celery", "-A", "burnish.learner.app:app")
    serving = processes.start("serving", "burnish.serving")
    processes.start("worker", *celery, "worker", "-c", "1", "-Q", "intake", "--loglevel", "INFO")
    prepare = processes.start("prepare", "burnish.ops.supervisor.prepare")
    engine = processes.start(
        "engine",
        "burnish.serving",
        BURNISH_PORT="0",
        BURNISH_ENGINE_URL=f"http://ann:engine-{PLANTED}@127.0.0.1:{free_port()}",
        BURNISH_ENGINE_KEY=secret("engine"),
    )
    commands = [
        processes.start(f"command-{name}", "burnish.ops.cli", name, *rest, BURNISH_API_KEY=key)
        for name, *rest in (["status"], ["sign", "2"], ["promote", "2"], ["deadletters", "list"])
    ]
    commands += [
        processes.start(f"unreadable-{name}", "burnish.ops.cli", "status", **{name: url})
        for name, url in {
            "BURNISH_KAFKA_BOOTSTRAP": f"http://a:{PLANTED}@b",
            "BURNISH_REDIS_URL": f"redis://:{PLANTED}/x@b:6379/0",
            "BURNISH_DATABASE_URL": f"postgresql://a:{PLANTED}#x@b/c",
            "BURNISH_MLFLOW_URI": f"https://a:{PLANTED}?@b",
        }.items()
    ]
    unreadable = processes.start(
        "unreadable", "burnish.serving", BURNISH_REDIS_URL=f"redis://:{PLANTED}/x@b:6379/0"
    )

    url = f"http://127.0.0.1:{processes.env['BURNISH_PORT']}"

    def up() -> bool:
        assert serving.poll() is None, processes.log("serving")
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/healthz", timeout=5).status_code == 200
        return False

    eventually(up, 120)
    eventually(lambda: "registry" in processes.log("serving"), 120)
    eventually(lambda: "Cannot connect" in processes.log("worker"), 120)
    processes.note_commands()
    answers = []
    for headers in ({"authorization": f"Bearer {key}"}, {"authorization": f"Bearer {key[:-1]}g"}):
        for route in ALL_ROUTES:
            answers.append(httpx.get(url + route, headers=headers, timeout=60).text)
        for body in ({"messages": key, "model": 7, "api_key": key}, {}):
            sent = httpx.post(f"{url}/v1/feedback", json=body, headers=headers, timeout=60)
            answers.append(sent.text)
    for process in (prepare, engine, unreadable):
        assert process.wait(120) != 0
    for process in commands:
        process.wait(120)
    processes.stop()

    said = {**processes.said(), "answers": "\n".join(answers)}
    for name, text in said.items():
        assert PLANTED not in text, f"{name}: {_line_with(PLANTED, text)}"
        if name != "answers":  # a client is told what it sent itself
            assert key not in text, f"{name}: {_line_with(key, text)}"


def _line_with(text: str, lines: str) -> str:
    return next(line for line in lines.splitlines() if text in line)
