"""State of a running service in its data folder: the lock, and `run.json` with ports and pids.

`burnish chat`, `status` and other commands find the service of a folder by `run.json`. The file may
be stale after a crash; `running()` checks that its supervisor is alive.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE_NAME = "run.json"


class FolderInUse(RuntimeError):
    """Another `burnish up` owns this data folder."""


@dataclass
class RunState:
    """Contents of run.json."""

    pid: int
    url: str
    redis_port: int | None = None
    mlflow_url: str | None = None
    kafka: str | None = None
    started_at: float = 0.0
    children: dict[str, int] = field(default_factory=dict)  # name -> pid

    def write(self, data_dir: Path) -> None:
        target = data_dir / FILE_NAME
        draft = target.with_suffix(".tmp")
        draft.write_text(json.dumps(asdict(self), indent=1))
        draft.chmod(0o600)
        draft.replace(target)


def read(data_dir: Path) -> RunState | None:
    try:
        state = RunState(**json.loads((data_dir / FILE_NAME).read_text()))
        pids = [state.pid, *state.children.values()]
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None  # also where the file is damaged: the next start writes it
    return state if all(isinstance(pid, int) and pid > 0 for pid in pids) else None


def running(data_dir: Path) -> RunState | None:
    """The state, if its supervisor is alive."""
    state = read(data_dir)
    return state if state and pid_alive(state.pid) else None


def pid_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def lock(data_dir: Path, timeout_s: float = 15.0) -> int:
    """Acquire the folder's lock; returns its file descriptor, which holds the lock while open.

    After a supervisor was killed, its reaper keeps the lock for some seconds while it stops the
    children; this waits for it, up to the timeout. Raises FolderInUse, at once where the supervisor
    is alive.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            owner = running(data_dir)
            if owner or time.monotonic() > deadline:
                os.close(fd)
                who = f"pid {owner.pid}, {owner.url}" if owner else "its children are still ending"
                raise FolderInUse(
                    f"BURNISH_DATA_DIR: {data_dir} is in use ({who}); choose another with --data-dir"
                ) from None
            time.sleep(0.2)
