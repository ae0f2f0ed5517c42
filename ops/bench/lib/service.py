"""A service of a bench's own: `burnish up` on a free port and a fresh folder, stopped at the end.

What a bench measures must be what people run, so nothing is started here but the command.
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

PATIENCE_S = 300.0
CALM_S, CALM_SHARE = 2.0, 0.1  # of one core
LATER_CHILDREN = ("worker", "beat")  # started once serving answers


class BenchError(RuntimeError):
    """The service a bench needs did not come up, or did not come back."""


@dataclass(frozen=True)
class Running:
    url: str
    data_dir: Path
    log: Path

    @property
    def mlflow_uri(self) -> str:
        return f"sqlite:///{self.data_dir}/mlflow/mlflow.db"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.data_dir}/experience.db"

    def pid(self, child: str) -> int:
        found = run_state.read(self.data_dir)
        if found is None or child not in found.children:
            raise BenchError(f"{child} does not run")
        return found.children[child]

    def cpu(self) -> dict[str, float]:
        """CPU seconds that each process of the service has used so far."""
        found = run_state.read(self.data_dir)
        return {name: cpu_seconds(pid) for name, pid in (found.children if found else {}).items()}

    def await_calm(self, patience: float = PATIENCE_S) -> None:
        """Until nothing is starting up any more: MLflow's page takes its time, and the cores."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            before = sum(self.cpu().values())
            time.sleep(CALM_S)
            if sum(self.cpu().values()) - before < CALM_SHARE * CALM_S:
                return
        raise BenchError(f"still busy after {patience:.0f} s; see {self.log}")

    def await_ready(self, patience: float = PATIENCE_S) -> None:
        """Until serving is ready and the learner's processes run."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            found = run_state.running(self.data_dir)
            if (
                found is not None
                and all(
                    name in found.children and run_state.pid_alive(found.children[name])
                    for name in LATER_CHILDREN
                )
                and http_ok(f"{self.url}/readyz")
            ):
                return
            time.sleep(0.2)
        raise BenchError(f"not ready within {patience:.0f} s; see {self.log}")


@contextlib.contextmanager
def running(
    folder: Path, *, kafka: bool = False, env: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """`burnish up` with its data in `folder`, ready to be used."""
    # A bench that is ended must not leave a service behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    log = folder / "up.log"
    service = Running(f"http://127.0.0.1:{port}", folder / "data", log)
    argv = [sys.executable, "-m", "burnish.ops.cli", "up", "--port", str(port)]
    argv += ["--data-dir", str(service.data_dir), *(["--kafka"] if kafka else [])]
    with log.open("ab") as out:
        process = subprocess.Popen(
            argv, env={**os.environ, **(env or {})}, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        service.await_ready()
        yield service
    finally:
        stop(process)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of the children it has waited for; 0.0 where the system is no Linux."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, stat.rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")


def stop(process: subprocess.Popen, patience: float = 60.0, *, group: bool = False) -> None:
    """Ctrl-C (to the whole group, as a terminal does), and what one does when that takes too long."""
    if process.poll() is not None:
        return
    if group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()  # its guard ends the children
        process.wait()
