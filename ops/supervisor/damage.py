"""Damaged stores of a data folder: found before a start, and told from the lines of the logs.

Left out: the repair (`burnish repair`, commands/repair.py). Redis checks its append-only file itself
when it starts, and says so in its log.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from burnish.ops.settings import SettingsError

# How SQLite, Redis and Valkey say it, whoever logs it.
SIGNS = re.compile(
    r"database disk image is malformed|file is not a database|malformed database schema"
    r"|(Bad file format|Unexpected end of file) reading the append only file"
    r"|AOF loading aborted|Error opening or loading.*AOF|Invalid AOF manifest"
)
# A full check reads the whole file; larger ones are only opened, and checked by `burnish repair`.
QUICK_BYTES = 32 * 10**6
WAY_OUT = "run `burnish repair`"


class StoreDamaged(SettingsError):
    """A store of the data folder cannot be read; the message names it and the way out."""


def sqlite_stores(data_dir: Path, env: Mapping[str, str]) -> Iterator[Path]:
    """The SQLite files of a folder that are there; `env` may point two of them elsewhere."""
    given = [env.get("BURNISH_DATABASE_URL"), env.get("BURNISH_MLFLOW_URI")]
    default = [data_dir / "experience.db", data_dir / "mlflow" / "mlflow.db"]
    files = [data_dir / "spool.db", data_dir / "keys.sqlite"]
    for url, path in zip(given, default, strict=True):
        if url is None:
            files.append(path)
        elif url.startswith("sqlite:///"):
            files.append(Path(url.removeprefix("sqlite:///")))
    yield from (file for file in files if file.exists())


def sqlite_damage(path: Path, *, quick: bool = False) -> str | None:
    """What is wrong with a SQLite file; None if nothing is. Changes nothing."""
    small = path.stat().st_size <= QUICK_BYTES
    check = "integrity_check(1)" if not quick else "quick_check(1)" if small else "schema_version"
    log = path.with_name(path.name + "-wal")
    # Without a log there is no other process either, and SQLite need not make one.
    how = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=30)) as db:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            found = str(db.execute(f"PRAGMA {check}").fetchone()[0])
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" or found.isdigit() else " ".join(found.split())


def damaged_stores(data_dir: Path, env: Mapping[str, str]) -> list[str]:
    """A line for each SQLite file that a quick check finds damaged."""
    found = []
    for path in sqlite_stores(data_dir, env):
        if problem := sqlite_damage(path, quick=True):
            found.append(f"{path} is damaged ({problem})")
    return found


def refuse_damaged(data_dir: Path, env: Mapping[str, str]) -> None:
    """Before a start. Raises StoreDamaged."""
    if found := damaged_stores(data_dir, env):
        raise StoreDamaged(f"{'; '.join(found)}: {WAY_OUT}")
