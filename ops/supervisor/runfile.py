"""What a running service leaves in its data folder: the lock, and `run.json` with ports and pids.

`run.json` is how `burnish chat`, `status` and `promote` find the server of this folder. It may be
stale after a crash; `running()` checks that its supervisor still lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

NAME = "run.json"


class FolderInUse(RuntimeError):
    """Another `burnish up` owns this data folder."""


@dataclass
class RunFile:
    pid: int
    url: str
    redis_port: int | None = None
    mlflow_url: str | None = None
    kafka: str | None = None
    started_at: float = 0.0
    children: dict[str, int] = field(default_factory=dict)  # name -> pid

    def write(self, data_dir: Path) -> None:
        target = data_dir / NAME
        fresh = target.with_suffix(".tmp")
        fresh.write_text(json.dumps(asdict(self), indent=1))
        fresh.chmod(0o600)
        fresh.replace(target)


def read(data_dir: Path) -> RunFile | None:
    try:
        return RunFile(**json.loads((data_dir / NAME).read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def running(data_dir: Path) -> RunFile | None:
    """The run file, if its supervisor is alive."""
    found = read(data_dir)
    return found if found and pid_alive(found.pid) else None


def pid_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def lock(data_dir: Path, patience: float = 15.0) -> int:
    """Take the folder's lock and return its file descriptor (open = held).

    A supervisor that was killed leaves its guard behind for some seconds, ending children and
    holding the lock: worth waiting for. A living supervisor is not.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + patience
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
