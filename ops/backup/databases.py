"""Copies of databases as they are at one moment: SQLite by its backup API, PostgreSQL by pg_dump."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from burnish.feedback.masking import masked
from burnish.ops.commands.client import ServiceError
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

SQLITE_SUFFIXES = (".db", ".sqlite")
SQLITE_COMPANIONS = ("-wal", "-shm", "-journal")


def copy_sqlite(source: Path, target: Path) -> None:
    """A consistent copy of a file that others may be writing to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        closing(sqlite3.connect(source, timeout=60)) as live,
        closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, without companions


def dump_postgres(url: str, target: Path) -> None:
    """In PostgreSQL's custom format. Raises ServiceError with what pg_dump says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={target}")


def restore_postgres(url: str, dump: Path) -> None:
    """Into a database without tables, whole or not at all. Raises ServiceError."""
    engine = create_engine(_driver(url))
    try:
        tables = inspect(engine).get_table_names()
    except SQLAlchemyError as error:
        raise ServiceError(masked(f"the database does not answer: {error}")) from error
    finally:
        engine.dispose()
    if tables:
        raise ServiceError(
            f"the database {make_url(url).database} has tables already; restore into an empty one"
        )
    options = ["--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"]
    _run("pg_restore", url, *options, str(dump))


def is_postgres(url: str | None) -> bool:
    return url is not None and make_url(url).get_backend_name() == "postgresql"


def _driver(url: str) -> URL:
    parsed = make_url(url)
    return parsed.set(drivername="postgresql+psycopg")


def _run(program: str, url: str, *arguments: str) -> None:
    """The password goes by the environment: command lines can be read by everyone on a machine."""
    parsed = make_url(url).set(drivername="postgresql")
    plain = parsed.set(password=None).render_as_string()
    env = {**os.environ, **({"PGPASSWORD": str(parsed.password)} if parsed.password else {})}
    command = [_binary(program), *arguments[:-1], f"--dbname={plain}", arguments[-1]]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise ServiceError(masked(f"{program}: {done.stderr.strip()}"))


def _binary(name: str) -> str:
    """The newest of Debian's, which dumps older servers too, else the one on PATH."""
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    for home in reversed(homes):
        if (home / name).exists():
            return str(home / name)
    found = shutil.which(name)
    if found is None:
        raise ServiceError(f"{name} is not installed (Debian: postgresql-client)")
    return found
