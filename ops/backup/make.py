"""`burnish backup FOLDER`: copies every store of a service, which may go on meanwhile.

An event that was acknowledged lies in the spool, in the stream or in the experience database, and moves
in that order; copied in that order, every one is in some copy, and one in two of them is recognised by
its id. For the same reason the registry is copied before its artifacts, which are written first. The
folder appears whole, or not at all. Left out: Kafka's own log beyond what the learner has not read,
logs, and what the next start makes anew.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from burnish.feedback.contract import TOPICS
from burnish.feedback.errors import FeedbackError
from burnish.feedback.settings import StreamSettings
from burnish.feedback.stream.event_stream import EventStream
from burnish.feedback.stream.opening import open_raw_stream
from burnish.feedback.stream.record import StreamRecord
from burnish.ops.backup import redis_keys
from burnish.ops.backup.databases import (
    SQLITE_COMPANIONS,
    SQLITE_SUFFIXES,
    copy_sqlite,
    dump_postgres,
    is_postgres,
)
from burnish.ops.backup.manifest import Manifest, hashes
from burnish.ops.backup.stores import NOT_COPIED, Registry, redis_of, registry_of
from burnish.ops.commands.client import ServiceError
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import run_state
from burnish.ops.supervisor.privacy import close_to_others
from rich.console import Console

FILES, REDIS, STREAM = "files", "redis.sqlite", "stream.sqlite"
EXPERIENCE, REGISTRY, ARTIFACTS = "experience", "registry", "artifacts"


def run(
    settings: UpSettings,
    target: Path,
    console: Console,
    *,
    mlflow_database: str | None = None,
    mlflow_artifacts: Path | None = None,
) -> dict[str, str]:
    """What it holds, by part. Raises ServiceError where a store cannot be copied; then nothing is left behind."""
    folder = settings.data_dir.resolve()
    if not folder.is_dir():
        raise ServiceError(f"there is no data folder at {folder}")
    if target.exists():
        raise ServiceError(f"{target} exists already: name a new folder")
    registry = registry_of(settings, mlflow_database, mlflow_artifacts)
    draft = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    close_to_others(draft)  # it holds secrets
    began, holds = time.time(), {}
    try:
        for part, told in _copy(settings, folder, registry, draft):
            holds[part] = told
            console.print(f"{part}: {told}", highlight=False)
        Manifest(began, version("burnish"), holds, hashes(draft)).write(draft)
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    console.print(f"backed up to {target}", highlight=False, soft_wrap=True)
    return holds


def _copy(
    settings: UpSettings, folder: Path, registry: Registry, draft: Path
) -> Iterator[tuple[str, str]]:
    yield (
        "files",
        f"{copy_files(folder, draft / FILES)} files: keys, secrets, the spool, checkpoints",
    )
    bootstrap = kafka_of(settings)
    if bootstrap is not None:
        count = copy_unread(settings, bootstrap, draft / STREAM)
        yield "stream", f"{count} events that the learner had not read"
    with redis_of(settings) as client:
        yield "redis", f"{redis_keys.dump(client, draft / REDIS)} keys: sessions, records, events"
    yield "experience", copy_database(experience_of(settings), draft, EXPERIENCE)
    yield "registry", copy_database(registry.database, draft, REGISTRY)
    if registry.artifacts.is_dir():
        shutil.copytree(registry.artifacts, draft / ARTIFACTS)
        yield (
            "artifacts",
            f"{len(list((draft / ARTIFACTS).rglob('*')))} files and folders of versions",
        )


def copy_files(folder: Path, into: Path) -> int:
    """Copy a data folder, databases in it by their backup; returns how many files. A file that is gone
    or half there when its turn comes was no acknowledged one."""
    count = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] in NOT_COPIED or not path.is_file():
            continue
        if any(path.name.endswith(suffix) for suffix in (*SQLITE_COMPANIONS, ".tmp")):
            continue
        if path.suffix in SQLITE_SUFFIXES:
            copy_sqlite(path, into / name)
        else:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copy2(path, into / name)
            except FileNotFoundError:
                continue
        count += 1
    return count


def copy_database(source: str | Path, draft: Path, name: str) -> str:
    if isinstance(source, str) and is_postgres(source):
        dump_postgres(source, draft / f"{name}.dump")
        return "a dump of PostgreSQL"
    if not Path(source).is_file():
        return "none yet"
    copy_sqlite(Path(source), draft / f"{name}.sqlite")
    return "a copy of SQLite"


def kafka_of(settings: UpSettings) -> str | None:
    """The Kafka that the settings name, or that the running service brought up."""
    running = run_state.running(settings.data_dir.resolve())
    return settings.kafka_bootstrap or (running.kafka if running else None)


def copy_unread(settings: UpSettings, bootstrap: str, target: Path) -> int:
    """Copy what follows the offsets that the experience database has now; returns how many records."""
    from burnish.learner.database import Database
    from burnish.learner.metrics import positions

    source = experience_of(settings)
    database = Database(source if isinstance(source, str) else f"sqlite:///{source}")
    stream = open_raw_stream(StreamSettings(kafka_bootstrap=bootstrap))
    count = 0
    try:
        database.migrate()
        at = positions(database)
        with closing(sqlite3.connect(target)) as file, file:
            file.execute("CREATE TABLE record (topic TEXT, key TEXT, headers TEXT, value BLOB)")
            for topic in TOPICS:
                for partition in stream.partitions(topic):
                    for record in _following(stream, topic, partition, at.get((topic, partition))):
                        row = (record.topic, record.key, _json(record), record.value)
                        file.execute("INSERT INTO record VALUES (?, ?, ?, ?)", row)
                        count += 1
    except FeedbackError as error:
        raise ServiceError(f"the stream cannot be read: {error}") from error
    finally:
        stream.close()
        database.close()
    return count


def _following(
    stream: EventStream, topic: str, partition: int, after: str | None
) -> Iterator[StreamRecord]:
    """Up to what was there at the beginning: more keeps coming."""
    left = stream.lag(topic, partition, after)
    while left > 0:
        records = stream.read(topic, partition, after, timeout=5.0)
        if not records:
            return
        yield from records
        left -= len(records)
        after = records[-1].offset


def _json(record: StreamRecord) -> str:
    import json

    return json.dumps(dict(record.headers))


def experience_of(settings: UpSettings) -> str | Path:
    url = settings.database_url
    if url is None:
        return settings.data_dir.resolve() / "experience.db"
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else url
