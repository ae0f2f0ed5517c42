"""The supervisor on a full disk: it outlives it, and what ended of it is started again at once."""

import os
import sys
import threading
from collections.abc import Iterator
from io import StringIO

import pytest
from burnish.ops.bench.lib.small_disk import SmallDisk
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import run_state
from burnish.ops.supervisor.child_process import ServiceSpec, rotate
from burnish.ops.supervisor.services import LaunchPlan
from burnish.ops.supervisor.space import await_space, disk_of
from burnish.ops.supervisor.up import Supervisor
from rich.console import Console

from tests.waiting import eventually

# Like Redis: it ends where it cannot write.
WRITER = """
import os, sys, time
with open(sys.argv[1], "ab", buffering=0) as file:
    while True:
        file.write(bytes(4096))
        os.truncate(sys.argv[1], 0)
        time.sleep(0.02)
"""


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO(), width=200)


@pytest.fixture
def supervisor(small_disk: SmallDisk, console: Console) -> Iterator[Supervisor]:
    folder = small_disk.folder
    settings = UpSettings(data_dir=folder, disk_low_mb=8)
    plan = LaunchPlan(settings, folder, {}, None, 1, None)
    argv = [sys.executable, "-c", WRITER, str(folder / "aof")]
    lock = run_state.lock(folder)
    supervisor = Supervisor(plan, [ServiceSpec("redis", argv)], console, lock)
    supervisor.start()
    watching = threading.Thread(target=supervisor.watch)
    watching.start()
    yield supervisor
    supervisor._stop.set()
    watching.join(30)
    assert not watching.is_alive()
    supervisor.stop()
    os.close(lock)


def recorded_pid(disk: SmallDisk) -> int | None:
    state = run_state.read(disk.folder)
    return state.children.get("redis") if state else None


def said(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_it_outlives_a_full_disk_and_starts_again_what_ended(
    supervisor: Supervisor, small_disk: SmallDisk, console: Console
) -> None:
    [child] = supervisor.children
    # As late in its back-off as a minute of failing would bring it.
    eventually(lambda: small_disk.fill() or child.backoff() >= 2.0)
    assert f"the disk of {small_disk.folder} has" in said(console)
    small_disk.clear()
    eventually(lambda: "there is space again" in said(console))
    eventually(lambda: child.pid is not None and run_state.pid_alive(child.pid))
    eventually(lambda: recorded_pid(small_disk) == child.pid)


def test_a_run_file_that_cannot_be_written_is_written_later(
    supervisor: Supervisor, small_disk: SmallDisk, console: Console
) -> None:
    # Again and again, since the writer may have had its block at the first time, and keep it.
    eventually(lambda: small_disk.fill() or "run.json cannot be written" in said(console))
    assert run_state.running(small_disk.folder)  # the old one is whole
    small_disk.clear()
    eventually(lambda: recorded_pid(small_disk) == supervisor.children[0].pid is not None)


def test_a_start_waits_for_space(small_disk: SmallDisk) -> None:
    disk = disk_of(UpSettings(data_dir=small_disk.folder, disk_low_mb=8))
    small_disk.fill()
    told: list[str] = []
    await_space(disk, told.append, lambda _: small_disk.clear())
    await_space(disk, told.append, lambda _: None)
    [line] = told
    assert f"waiting for space: the disk of {small_disk.folder}" in line


def test_a_log_is_capped_while_it_is_written_and_on_a_full_disk(small_disk: SmallDisk) -> None:
    path = small_disk.folder / "serving.log"
    with path.open("ab", buffering=0) as log:
        log.write(b"x" * 5000)
        rotate(path, limit=4000)
        assert path.stat().st_size == 0
        assert path.with_suffix(".log.1").stat().st_size == 5000
        log.write(b"y" * 10**6)
        small_disk.fill()
        rotate(path, limit=4000)
        log.write(b"goes on\n")
    assert path.read_bytes() == b"goes on\n"
