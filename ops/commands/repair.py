"""`burnish repair`: checks every store of a data folder, saves what can be read, says what is lost.

Nothing is deleted: a damaged file is set aside as `NAME.broken-TIME`, and what could be read of it
takes its place. The service must be stopped. With `--dry-run` nothing is changed and the same is
told. Exit code 0 if the service can start again. Left out: stores that the settings put elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from burnish.feedback.disk import DiskSpace
from burnish.ops.commands.adapters import Finding, repair_adapters
from burnish.ops.commands.append_only import AppendOnlyFiles
from burnish.ops.commands.client import ServiceError
from burnish.ops.commands.output import print_json
from burnish.ops.commands.salvage import (
    COMPANIONS,
    TAIL,
    Salvaged,
    copy_database,
    salvage,
)
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import run_state
from burnish.ops.supervisor.damage import sqlite_damage
from rich.console import Console

JSON_FILES = ("run.json", "adapters/served.json")


@dataclass(frozen=True)
class SqliteStore:
    """A SQLite file and how an empty one is made."""

    path: Path
    make: Callable[[Path], None]
    holds: str


def run(settings: UpSettings, *, dry_run: bool, console: Console, as_json: bool = False) -> int:
    """Returns the exit code. Raises ServiceError where a service runs on the folder."""
    folder = settings.data_dir.resolve()
    if not folder.is_dir():
        raise ServiceError(f"there is no data folder at {folder}")
    try:
        lock = run_state.lock(folder)
    except run_state.FolderInUse as error:
        raise ServiceError(f"{folder} is in use: stop the service first ({error})") from error
    try:
        _check_space(settings, folder)
        findings = list(examine(settings, folder, dry_run=dry_run))
    finally:
        os.close(lock)
    usable = all(finding.usable for finding in findings)
    if as_json:
        print_json({"can_start": usable, "stores": [asdict(finding) for finding in findings]})
        return 0 if usable else 1
    for finding in findings:
        problem = f"damaged ({finding.problem}): " if finding.problem else "whole"
        console.print(
            f"{finding.store}: {problem}{finding.outcome}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    console.print("the service can start" if usable else "the service cannot start yet")
    return 0 if usable else 1


def _check_space(settings: UpSettings, folder: Path) -> None:
    """Two copies of a store at most: without the room for them, saving would look like losing."""
    paths = [store.path for store in sqlite_stores(settings, folder)]
    paths += (folder / "redis" / "appendonlydir").glob("*")
    needed = 2 * sum(path.stat().st_size for path in paths if path.exists())
    free = DiskSpace(folder).free()
    if free < needed:
        raise ServiceError(
            f"a repair may need {needed / 1e6:.0f} MB beside {folder}; {free / 1e6:.0f} MB are free"
        )


def examine(settings: UpSettings, folder: Path, *, dry_run: bool) -> Iterator[Finding]:
    """Check and repair store after store; the files that others refer to come first."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    for name in JSON_FILES:
        yield from _json_file(folder / name, folder, stamp, dry_run)
    found = []
    for store in sqlite_stores(settings, folder):
        if store.path.exists():
            found.append(_sqlite(store, folder, stamp, dry_run))
            yield found[-1]
    if settings.redis_url is None and (folder / "redis" / "appendonlydir").is_dir():
        yield _append_only(folder / "redis" / "appendonlydir", folder, stamp, dry_run)
    damaged = {finding.store for finding in found if finding.problem}
    readable = not (dry_run and "mlflow/mlflow.db" in damaged)
    if settings.mlflow_uri is None and (folder / "mlflow" / "mlflow.db").exists() and readable:
        yield from repair_adapters(folder, dry_run=dry_run)


def sqlite_stores(settings: UpSettings, folder: Path) -> Iterator[SqliteStore]:
    yield SqliteStore(folder / "spool.db", _make_spool, "events that the stream did not have yet")
    yield SqliteStore(folder / "keys.sqlite", _make_keys, "API keys")
    if settings.database_url is None:
        yield SqliteStore(folder / "experience.db", _make_experience, "experience")
    if settings.mlflow_uri is None:
        path = folder / "mlflow" / "mlflow.db"
        yield SqliteStore(path, _make_registry, "versions and their aliases")


# --- files ---------------------------------------------------------------------------------------


def _json_file(path: Path, folder: Path, stamp: str, dry_run: bool) -> Iterator[Finding]:
    """Both are written anew by the next start; they only have to be out of the way."""
    if not path.exists():
        return
    try:
        whole = isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        whole = False
    name = str(path.relative_to(folder))
    if whole:
        yield Finding(name, None)
        return
    aside = path.with_name(f"{path.name}.broken-{stamp}")
    if not dry_run:
        path.rename(aside)
    yield Finding(name, "not a JSON object", f"{_aside(aside, dry_run)}; the next start writes it")


def _aside(path: Path, dry_run: bool) -> str:
    return f"{'would be ' if dry_run else ''}set aside as {path.name}"


# --- SQLite --------------------------------------------------------------------------------------


def _sqlite(store: SqliteStore, folder: Path, stamp: str, dry_run: bool) -> Finding:
    path = store.path
    name = str(path.relative_to(folder))
    problem = sqlite_damage(path)
    if problem is None and path.name == "spool.db" and unreadable_events(path):
        problem = "events in it cannot be read"
    if problem is None:
        return Finding(name, None)
    # Beside the file, so that the result is moved into place in one step.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".repair-") as scratch:
        copy = copy_database(path, Path(scratch) / "broken")
        fresh = Path(scratch) / path.name
        saved = salvage(copy, fresh, store.make)
        dropped = _drop_unreadable_events(fresh) if path.name == "spool.db" and saved else 0
        aside = path.with_name(f"{path.name}.broken-{stamp}")
        if not dry_run:
            for end in COMPANIONS:
                file = path.with_name(path.name + end)
                if file.exists():
                    file.rename(aside.with_name(aside.name + end))
            if not saved:
                # Empty rather than missing: a missing file of keys would mean that none are needed.
                store.make(fresh)
            fresh.chmod(aside.stat().st_mode & 0o777)
            fresh.replace(path)
    return Finding(name, problem, f"{_saved(saved, dropped, store)}; {_aside(aside, dry_run)}")


def _saved(saved: Sequence[Salvaged], dropped: int, store: SqliteStore) -> str:
    if not saved:
        return f"nothing could be read; {store.holds} begin anew"
    tables = ", ".join(f"{t.rows} of {t.table}" for t in saved if t.rows) or "no rows"
    lost = [
        f"{'an unknown number' if t.unreadable >= TAIL else f'up to {t.unreadable}'} of {t.table}"
        for t in saved
        if t.unreadable
    ]
    if dropped:
        lost.append(f"{dropped} unreadable events")
    return f"saved {tables}; lost {', '.join(lost) or 'nothing'}"


def unreadable_events(spool: Path) -> list[int]:
    """The `seq` of events in a spool that the forwarder could not read."""
    from burnish.feedback.errors import UnknownEvent
    from burnish.feedback.events import decode
    from burnish.feedback.stream.record import StreamRecord

    found = []
    with closing(sqlite3.connect(spool)) as db:
        db.text_factory = lambda text: text.decode(errors="surrogateescape")
        rows = db.execute("SELECT seq, topic, key, headers, value FROM outbox")
        for seq, topic, key, headers, value in rows:
            try:
                key.encode()  # fails on what was not UTF-8
                event = decode(StreamRecord(topic, key, value, dict(json.loads(headers))))
            except (UnknownEvent, ValueError, TypeError, AttributeError):
                found.append(seq)
                continue
            if event.topic != topic:
                found.append(seq)
    return found


def _drop_unreadable_events(spool: Path) -> int:
    """They stay in the file that is set aside."""
    seqs = unreadable_events(spool)
    with closing(sqlite3.connect(spool)) as db, db:
        db.executemany("DELETE FROM outbox WHERE seq = ?", [(seq,) for seq in seqs])
    return len(seqs)


def _make_spool(path: Path) -> None:
    from burnish.feedback.spool.spool import Spool

    Spool(path).close()


def _make_keys(path: Path) -> None:
    from burnish.serving.api.auth import KeyStore

    keys = KeyStore(path)
    keys.create("repair")
    for key in keys.list():
        keys.revoke(key.prefix)


def _make_experience(path: Path) -> None:
    from burnish.learner.database import Database

    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()


def _make_registry(path: Path) -> None:
    from burnish.serving import registry

    registry.prepare(f"sqlite:///{path}", None)


# --- Redis ---------------------------------------------------------------------------------------


def _append_only(path: Path, folder: Path, stamp: str, dry_run: bool) -> Finding:
    name = str(path.relative_to(folder))
    files = AppendOnlyFiles(path)
    problem = files.problem()
    if problem is None:
        return Finding(name, None)
    aside = path.with_name(f"{path.name}.broken-{stamp}")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".repair-") as scratch:
        copy = Path(scratch) / path.name
        shutil.copytree(path, copy)
        kept, lost = AppendOnlyFiles(copy).fix()
        if not dry_run:
            path.rename(aside)
            if kept:
                copy.rename(path)
    saved = f"saved {kept} bytes, lost the {lost} behind the damage"
    if not kept:
        saved = "nothing could be read; sessions, records and waiting events begin anew"
    return Finding(name, problem, f"{saved}; {_aside(aside, dry_run)}")
