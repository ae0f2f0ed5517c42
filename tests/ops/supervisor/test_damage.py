"""Damaged stores: one line that names the file and the way out, and no restart loop."""

import os
import sqlite3
import sys
import threading
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import run_state
from burnish.ops.supervisor.child_process import ServiceSpec
from burnish.ops.supervisor.damage import StoreDamaged, refuse_damaged, sqlite_damage
from burnish.ops.supervisor.services import LaunchPlan
from burnish.ops.supervisor.up import ChildFailed, Supervisor
from rich.console import Console

from tests.waiting import eventually

REDIS_SAYS = "Bad file format reading the append only file appendonly.aof.1.incr.aof: make a backup"


def database(path: Path, rows: int = 500) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE t (v TEXT)")
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 100,)] * rows)
    return path


@pytest.mark.parametrize("name", ["experience.db", "spool.db", "keys.sqlite", "mlflow/mlflow.db"])
@pytest.mark.parametrize("start", [0, 8192])
def test_a_start_names_the_damaged_file_and_the_way_out(tmp_path: Path, name: str, start: int):
    path = database(tmp_path / name)
    refuse_damaged(tmp_path, {})
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * 4096)
    with pytest.raises(StoreDamaged) as caught:
        refuse_damaged(tmp_path, {})
    message = str(caught.value)
    assert f"{path} is damaged" in message
    assert "burnish repair" in message
    assert "\n" not in message


def test_a_database_elsewhere_is_not_ours_to_check(tmp_path: Path) -> None:
    (tmp_path / "experience.db").write_bytes(b"no database at all")
    assert sqlite_damage(tmp_path / "experience.db")
    refuse_damaged(tmp_path, {"BURNISH_DATABASE_URL": "postgresql://db/burnish"})


def test_checking_leaves_a_log_that_was_not_written_back_alone(tmp_path: Path) -> None:
    path = tmp_path / "experience.db"
    script = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA journal_mode = WAL'); db.execute('CREATE TABLE t (v)')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", script, str(path))
    log = path.with_name("experience.db-wal")
    before = log.read_bytes()
    assert before
    assert sqlite_damage(path) is None
    assert log.read_bytes() == before


def supervise(tmp_path: Path, console: Console, argv: list[str]) -> tuple[Supervisor, int]:
    lock = run_state.lock(tmp_path)
    settings = UpSettings(data_dir=tmp_path, disk_low_mb=0)
    plan = LaunchPlan(settings, tmp_path, {}, None, 1, None)
    return Supervisor(plan, [ServiceSpec("redis", argv)], console, lock), lock


def test_a_child_that_ends_of_damage_is_not_started_for_ever(tmp_path: Path) -> None:
    console = Console(file=StringIO(), width=300)
    says = f"import sys; print({REDIS_SAYS!r}, flush=True); sys.exit(1)"
    supervisor, lock = supervise(tmp_path, console, [sys.executable, "-c", says])
    supervisor.start()
    watching = threading.Thread(target=supervisor.watch)
    watching.start()
    said = console.file.getvalue  # type: ignore[attr-defined]
    eventually(lambda: "is not started again" in said())
    eventually(lambda: "burnish repair" in said())
    supervisor._stop.set()
    watching.join(30)
    assert supervisor.children[0].restarts == 0
    supervisor.stop()
    os.close(lock)


def test_a_start_that_fails_of_damage_is_one_line(tmp_path: Path) -> None:
    says = f"import sys; print({REDIS_SAYS!r}, flush=True); sys.exit(1)"
    supervisor, lock = supervise(tmp_path, Console(file=StringIO()), [])
    child = supervisor.children[0]
    child.spec = ServiceSpec("redis", [sys.executable, "-c", says], ready=lambda: False)
    with pytest.raises(ChildFailed) as caught:
        supervisor.start()
    message = str(caught.value)
    assert REDIS_SAYS in message
    assert message.endswith("run `burnish repair`")
    assert "\n" not in message
    supervisor.stop()
    os.close(lock)
