"""`burnish restore FOLDER`: puts a backup back where nothing is.

The data folder must not hold a service's data, databases must be without tables, Redis without keys:
nothing is ever overwritten. What was wrong is told before anything is written. Behind Kafka the learner
reads the topics from their beginning again, and passes over what it has: what Kafka kept since the
backup comes back too. Restore to the same path, since MLflow keeps those of its artifacts.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from burnish.feedback.errors import FeedbackError
from burnish.feedback.settings import StreamSettings
from burnish.feedback.stream.opening import open_raw_stream
from burnish.feedback.stream.record import StreamRecord
from burnish.learner.database import Database
from burnish.learner.tables import OffsetRow
from burnish.ops.backup import manifest, redis_keys
from burnish.ops.backup.databases import is_postgres, restore_postgres
from burnish.ops.backup.make import (
    ARTIFACTS,
    EXPERIENCE,
    FILES,
    REDIS,
    REGISTRY,
    STREAM,
    experience_of,
)
from burnish.ops.backup.stores import redis_of, registry_of
from burnish.ops.commands.client import ServiceError
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import run_state
from burnish.ops.supervisor.privacy import close_to_others
from rich.console import Console
from sqlalchemy import delete

MAY_BE_THERE = ("lock", "logs", "kafka", "prometheus", "traces")


def run(
    settings: UpSettings,
    source: Path,
    console: Console,
    *,
    mlflow_database: str | None = None,
    mlflow_artifacts: Path | None = None,
) -> Mapping[str, str]:
    """What was put back, by part.

    Raises ServiceError where the backup is not whole, or something is in its place."""
    found = manifest.read(source)
    folder = settings.data_dir.resolve()
    registry = registry_of(settings, mlflow_database, mlflow_artifacts)
    _refuse_what_is_there(folder, registry.artifacts)
    for name, database in ((EXPERIENCE, experience_of(settings)), (REGISTRY, registry.database)):
        _refuse_other_kind(source, name, database)

    close_to_others(folder)
    if (source / FILES).is_dir():
        shutil.copytree(source / FILES, folder, dirs_exist_ok=True)
    _restore_database(source, EXPERIENCE, experience_of(settings))
    _restore_database(source, REGISTRY, registry.database)
    if (source / ARTIFACTS).is_dir():
        shutil.copytree(source / ARTIFACTS, registry.artifacts)
    with redis_of(settings) as client:
        redis_keys.load(client, source / REDIS)
    if settings.kafka_bootstrap is not None:
        _restore_stream(settings, source / STREAM)
    for part, told in found.holds.items():
        console.print(f"{part}: {told}", highlight=False)
    console.print(
        f"restored to {folder}; start it with `burnish up`", highlight=False, soft_wrap=True
    )
    return found.holds


def _refuse_what_is_there(folder: Path, artifacts: Path) -> None:
    if run_state.running(folder) is not None:
        raise ServiceError(f"a service runs on {folder}: stop it, and move its folder away")
    there = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    if taken := sorted(set(there) - set(MAY_BE_THERE)):
        raise ServiceError(
            f"{folder} is not empty ({taken[0]}): move it away, nothing is overwritten"
        )
    if artifacts.exists() and any(artifacts.iterdir()):
        raise ServiceError(f"{artifacts} is not empty: move it away, nothing is overwritten")


def _refuse_other_kind(source: Path, name: str, database: str | Path) -> None:
    if isinstance(database, str) and is_postgres(database):
        if not (source / f"{name}.dump").exists():
            raise ServiceError(
                f"the settings name PostgreSQL for the {name}, the backup has SQLite's"
            )
    elif (source / f"{name}.dump").exists():
        raise ServiceError(f"the backup has PostgreSQL's {name}: name the database to put it in")


def _restore_database(source: Path, name: str, database: str | Path) -> None:
    if isinstance(database, str) and is_postgres(database):
        restore_postgres(database, source / f"{name}.dump")
    elif (source / f"{name}.sqlite").exists():
        Path(database).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / f"{name}.sqlite", database)


def _restore_stream(settings: UpSettings, unread: Path) -> None:
    """Read the topics from their beginning, and publish what the learner had not read: it may be in a
    Kafka that is gone. What comes twice is recognised."""
    where = experience_of(settings)
    database = Database(where if isinstance(where, str) else f"sqlite:///{where}")
    with database.write() as session:
        session.execute(delete(OffsetRow))
    database.close()
    if not unread.exists():
        return
    stream = open_raw_stream(StreamSettings())
    try:
        stream.ensure_topics()
        with closing(sqlite3.connect(unread)) as file:
            rows = file.execute("SELECT topic, key, value, headers FROM record ORDER BY rowid")
            for some in redis_keys.batches(rows):
                stream.publish([StreamRecord(t, k, v, json.loads(h)) for t, k, v, h in some])
    except FeedbackError as error:
        raise ServiceError(f"the stream takes no events: {error}") from error
    finally:
        stream.close()
