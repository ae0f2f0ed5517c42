"""Child processes: started in their own group, watched, restarted with back-off, stopped in order.

What they are is said in `services.py`; this module knows only processes. Left out: any scheduling
beyond `nice`, and cgroups.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from burnish.ops.supervisor import guard as guard_script

LONGEST_BACKOFF = 15.0
STEADY = 30.0  # a child that lived this long starts again without delay
LOG_LIMIT = 20_000_000


@dataclass(frozen=True)
class Spec:
    """How to start one service and how to tell that it is up."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    patience: float = 90.0  # seconds to become ready
    grace: float = 20.0  # seconds between SIGTERM and SIGKILL
    nice: int = 0


class Guard:
    """The process that ends what is left when this one dies (see guard.py)."""

    def __init__(self, lock_fd: int):
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard_script.__file__],
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(lock_fd,),
        )

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()

    def add(self, group: int) -> None:
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        self._tell(f"-{group}\n")

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


class Child:
    """One service's process over its restarts."""

    def __init__(self, spec: Spec, logs: Path, guard: Guard):
        self.spec = spec
        self.log_path = logs / f"{spec.name}.log"
        self.restarts = 0
        self.exit_code: int | None = None
        self._guard = guard
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._asked: float | None = None
        self._quick_deaths = 0
        self._start_after = 0.0

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        rotate(self.log_path)
        argv = list(self.spec.argv)
        if self.spec.nice:
            argv = ["nice", "-n", str(self.spec.nice), *argv]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                env={**os.environ, **self.spec.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own group: Ctrl-C reaches the supervisor only, which stops things in order.
                start_new_session=True,
            )
        self._guard.add(self._process.pid)
        self._started = time.monotonic()
        self._asked = None
        self.exit_code = None

    def died(self) -> bool:
        """True once, when the process has ended since the last look."""
        if self._process is None or self._process.poll() is None:
            return False
        lived = time.monotonic() - self._started
        self.exit_code = self._process.returncode
        self._forget()
        self._quick_deaths = 0 if lived > STEADY else self._quick_deaths + 1
        self._start_after = time.monotonic() + self.backoff()
        return True

    def backoff(self) -> float:
        if self._quick_deaths == 0:
            return 0.0
        return min(0.5 * 2 ** (self._quick_deaths - 1), LONGEST_BACKOFF)

    def due(self) -> bool:
        return self._process is None and time.monotonic() >= self._start_after

    def ask_to_stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        self._asked = time.monotonic()

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """SIGTERM, wait for the grace period (or until `hurry`), then SIGKILL the whole group."""
        if self._process is None:
            return
        if self._asked is None:
            self.ask_to_stop()
        deadline = (self._asked or 0.0) + self.spec.grace
        while self._process.poll() is None and time.monotonic() < deadline and not hurry():
            time.sleep(0.05)
        self._forget()

    def _forget(self) -> None:
        """End whatever the process left in its group, so that a restart never meets it."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._guard.remove(self._process.pid)
        self._process = None

    def last_words(self, lines: int = 1) -> str:
        """The end of its log: what a person would look at first."""
        try:
            text = self.log_path.read_bytes()[-8000:].decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def rotate(path: Path, limit: int = LOG_LIMIT) -> None:
    """Keep one older log. Children append, so emptying the file under them is safe."""
    if path.exists() and path.stat().st_size > limit:
        data = path.read_bytes()
        path.with_suffix(".log.1").write_bytes(data)
        os.truncate(path, 0)
