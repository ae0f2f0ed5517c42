"""A service for one benchmark: `burnish up` on a free port and a new folder, stopped at the end.

It is started by the command itself, so that benchmarks measure what users run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from burnish.ops.settings import free_port
from burnish.ops.supervisor import run_state
from burnish.ops.supervisor.services import http_ok

TIMEOUT_S = 300.0
IDLE_WINDOW_S, IDLE_SHARE = 2.0, 0.1  # idle: below this share of one core over the window
LATE_CHILDREN = ("intake", "reward", "worker", "beat")  # started once serving is ready


class BenchError(RuntimeError):
    """The service that a benchmark needs did not start or recover."""


@dataclass(frozen=True)
class RunningService:
    """A `burnish up` process: its address, data folder and log."""

    url: str
    data_dir: Path
    log: Path
    database: str | None = None  # another experience database than the folder's

    @property
    def mlflow_uri(self) -> str:
        return f"sqlite:///{self.data_dir}/mlflow/mlflow.db"

    @property
    def mlflow_url(self) -> str:
        """Of MLflow's page."""
        state = run_state.read(self.data_dir)
        if state is None or state.mlflow_url is None:
            raise BenchError("MLflow's page does not run")
        return state.mlflow_url

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_dir}/experience.db"

    def pid(self, child: str) -> int:
        state = run_state.read(self.data_dir)
        if state is None or child not in state.children:
            raise BenchError(f"{child} does not run")
        return state.children[child]

    def cpu(self) -> dict[str, float]:
        """CPU seconds that each process of the service has used so far."""
        state = run_state.read(self.data_dir)
        return {name: cpu_seconds(pid) for name, pid in (state.children if state else {}).items()}

    def wait_until_idle(self, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until all processes have finished starting, MLflow's page included."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            before = sum(self.cpu().values())
            time.sleep(IDLE_WINDOW_S)
            if sum(self.cpu().values()) - before < IDLE_SHARE * IDLE_WINDOW_S:
                return
        raise BenchError(f"still busy after {timeout_s:.0f} s; see {self.log}")

    def wait_until_ready(self, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until serving is ready and the learner's processes run."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            state = run_state.running(self.data_dir)
            if (
                state is not None
                and all(
                    name in state.children and run_state.pid_alive(state.children[name])
                    for name in LATE_CHILDREN
                )
                and http_ok(f"{self.url}/readyz")
            ):
                return
            time.sleep(0.2)
        raise BenchError(f"not ready within {timeout_s:.0f} s; see {self.log}")


@contextlib.contextmanager
def run_service(
    folder: Path, *, kafka: bool = False, env: Mapping[str, str] | None = None
) -> Iterator[RunningService]:
    """Start `burnish up` with its data in `folder`; yields when it is ready."""
    # On SIGTERM, exit through the `finally` below, which stops the service.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    log = folder / "up.log"
    database = (env or {}).get("BURNISH_DATABASE_URL")
    service = RunningService(f"http://127.0.0.1:{port}", folder / "data", log, database)
    argv = [sys.executable, "-m", "burnish.ops.cli", "up", "--port", str(port)]
    argv += ["--data-dir", str(service.data_dir), *(["--kafka"] if kafka else [])]
    with log.open("ab") as out:
        process = subprocess.Popen(
            argv, env={**os.environ, **(env or {})}, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        service.wait_until_ready()
        yield service
    finally:
        stop(process)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and the children it has waited for, in seconds; 0.0 without /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, stat.rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")


def stop(process: subprocess.Popen, timeout_s: float = 60.0, *, group: bool = False) -> None:
    """SIGINT (to the process group, as a terminal sends it); SIGKILL after the timeout."""
    if process.poll() is not None:
        return
    if group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()  # its reaper stops the children
        process.wait()
