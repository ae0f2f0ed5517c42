"""One supervised child process: start, standby, exit detection, restart back-off, graceful stop.

Which services there are is defined in services.py; this module knows only processes. Left out: any
scheduling beyond `nice`, and cgroups.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from burnish.ops.supervisor import reaper as reaper_script

MAX_BACKOFF_S = 15.0
STABLE_AFTER_S = 30.0  # a child that ran this long is restarted without delay
STANDBY_AFTER_S = 10.0  # a child that ran this long gets a standby
MAX_LOG_BYTES = 20_000_000


@dataclass(frozen=True)
class ServiceSpec:
    """How to start one service, and how to check that it is ready."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    ready_timeout_s: float = 90.0
    stop_timeout_s: float = 20.0  # between SIGTERM and SIGKILL
    nice: int = 0
    standby_argv: Sequence[str] = ()  # a process that gets ready to take over, and waits for a line


class Reaper:
    """Handle on the reaper process, which kills remaining children when this process dies."""

    def __init__(self, lock_fd: int):
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper_script.__file__],
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(lock_fd,),
        )

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()

    def add(self, group: int) -> None:
        self._send(f"+{group}\n")

    def remove(self, group: int) -> None:
        self._send(f"-{group}\n")

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


class ChildProcess:
    """The process of one service, across its restarts."""

    def __init__(self, spec: ServiceSpec, logs: Path, reaper: Reaper):
        self.spec = spec
        self.log_path = logs / f"{spec.name}.log"
        self.restarts = 0
        self.exit_code: int | None = None
        self._reaper = reaper
        self._process: subprocess.Popen[bytes] | None = None
        self._standby: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._log_start = 0
        self._stop_requested_at: float | None = None
        self._early_exits = 0
        self._restart_at = 0.0

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        rotate(self.log_path)
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
        self._process = self._take_standby() or self._popen(self.spec.argv, subprocess.DEVNULL)
        self._started_at = time.monotonic()
        self._stop_requested_at = None
        self.exit_code = None

    def _popen(self, argv: Sequence[str], stdin: int) -> subprocess.Popen[bytes]:
        if self.spec.nice:
            argv = ["nice", "-n", str(self.spec.nice), *argv]
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                argv,
                env={**os.environ, **self.spec.env},
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A process group of its own: Ctrl-C reaches only the supervisor, which stops
                # services in order.
                start_new_session=True,
            )
        self._reaper.add(process.pid)
        return process

    def keep_standby(self) -> None:
        """See to it that the next start has a process that is ready for it."""
        if not self.spec.standby_argv or self._process is None:
            return
        if self._standby is not None and self._standby.poll() is not None:
            self._end(self._standby)
            self._standby = None
        if self._standby is None and time.monotonic() - self._started_at > STANDBY_AFTER_S:
            self._standby = self._popen(self.spec.standby_argv, subprocess.PIPE)

    def _take_standby(self) -> subprocess.Popen[bytes] | None:
        standby, self._standby = self._standby, None
        if standby is None:
            return None
        assert standby.stdin is not None
        try:
            with standby.stdin as go:
                go.write(b"\n")
        except OSError:  # it has ended
            self._end(standby)
            return None
        return standby

    def exited(self) -> bool:
        """True once per exit: when the process has ended since the last call."""
        if self._process is None or self._process.poll() is None:
            return False
        uptime = time.monotonic() - self._started_at
        self.exit_code = self._process.returncode
        self._kill_group()
        self._wait_before_restart(early=uptime <= STABLE_AFTER_S)
        return True

    def failed_to_start(self) -> None:
        """`start` has raised: wait as after an early exit."""
        self._wait_before_restart(early=True)

    def _wait_before_restart(self, *, early: bool) -> None:
        self._early_exits = self._early_exits + 1 if early else 0
        self._restart_at = time.monotonic() + self.backoff()

    def backoff(self) -> float:
        """Seconds to wait before the next restart: exponential in consecutive early exits."""
        if self._early_exits == 0:
            return 0.0
        return min(0.5 * 2 ** (self._early_exits - 1), MAX_BACKOFF_S)

    def hold(self) -> None:
        """Do not start it again: it would end of the same thing."""
        self._restart_at = math.inf

    def restart_now(self) -> None:
        """End the wait before the next restart: what it failed on is mended."""
        if self._restart_at < math.inf:
            self._early_exits, self._restart_at = 0, 0.0

    def restart_due(self) -> bool:
        return self._process is None and time.monotonic() >= self._restart_at

    def request_stop(self) -> None:
        """Send SIGTERM and return."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        self._stop_requested_at = time.monotonic()

    def stop(self, force: Callable[[], bool] = lambda: False) -> None:
        """SIGTERM, wait until the stop timeout (or until `force()`), then SIGKILL the group."""
        if self._standby is not None:
            self._end(self._standby)
            self._standby = None
        if self._process is None:
            return
        if self._stop_requested_at is None:
            self.request_stop()
        deadline = (self._stop_requested_at or 0.0) + self.spec.stop_timeout_s
        while self._process.poll() is None and time.monotonic() < deadline and not force():
            time.sleep(0.05)
        self._kill_group()

    def _kill_group(self) -> None:
        """Kill what is left of the process group, so that a restart does not conflict with it."""
        assert self._process is not None
        self._end(self._process)
        self._process = None

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._reaper.remove(process.pid)

    def log_lines(self, count: int = 1) -> str:
        """The last `count` non-empty lines of its log since it was started last."""
        try:
            with self.log_path.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                start = self._log_start if self._log_start <= end else 0  # rotated meanwhile
                log.seek(max(start, end - 8000))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


def rotate(path: Path, limit: int = MAX_LOG_BYTES) -> None:
    """Cap a log, also while its process writes: keep one older log, or none on a full disk.

    Processes open theirs for appending, so truncating it is safe; lines written between copy and
    truncation are lost.
    """
    if not path.exists() or path.stat().st_size <= limit:
        return
    older = path.with_suffix(".log.1")
    older.unlink(missing_ok=True)  # the copy takes its place
    with contextlib.suppress(OSError):
        shutil.copyfile(path, older)
    os.truncate(path, 0)
