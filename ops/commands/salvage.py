"""What can be read of a damaged SQLite file, copied row by row into a new one.

SQLite ends a scan at the first damaged page. Here the scan goes on behind it: rows are asked for by
ranges of their rowid, and a range that fails is halved until only what is damaged fails. Where the
first page is unreadable, which holds the schema, that of an empty file with the same schema takes its
place. Left out: rows below a damaged inner page, which nothing points to any more.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

FAILURES = 100_000  # of queries in one table, before the rest of it is given up
LAST_ROWID = 2**63 - 1
TAIL = 10_000  # rowids to try behind the last readable one, where the end is damaged
COMPANIONS = ("", "-wal", "-shm")  # of a database file


@dataclass(frozen=True)
class Salvaged:
    """Of one table: rows copied, and rowids that could not be read (0: the whole table)."""

    table: str
    rows: int
    unreadable: int


def salvage(broken: Path, fresh: Path, make: Callable[[Path], None]) -> list[Salvaged]:
    """Copy what can be read of `broken` into `fresh`, a new file. `broken` may be changed.

    `make` creates an empty database of that kind. Empty list: nothing could be read.
    """
    try:
        return _copy(broken, fresh)
    except sqlite3.DatabaseError:
        fresh.unlink(missing_ok=True)
    template = fresh.with_name(fresh.name + ".template")
    make(template)
    _graft_first_page(template, broken)
    _remove(template)
    try:
        return _copy(broken, fresh)
    except sqlite3.DatabaseError:
        fresh.unlink(missing_ok=True)
        return []


def _copy(broken: Path, fresh: Path) -> list[Salvaged]:
    with closing(sqlite3.connect(broken)) as source, closing(sqlite3.connect(fresh)) as target:
        schema = source.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
            " AND name NOT LIKE 'sqlite_%' ORDER BY type = 'table' DESC"
        ).fetchall()
        found = []
        for kind, name, sql in schema:
            target.execute(sql)
            if kind == "table":
                found.append(_copy_table(source, target, name, "WITHOUT ROWID" in sql.upper()))
                target.commit()
        target.commit()
    return found


def _copy_table(
    source: sqlite3.Connection, target: sqlite3.Connection, table: str, without_rowid: bool
) -> Salvaged:
    columns = [row[1] for row in source.execute(f'PRAGMA table_info("{table}")')]
    scan = _Scan(source, table, ", ".join(f'"{column}"' for column in columns))
    places = ", ".join("?" * len(columns))
    copied = 0
    for row in scan.from_both_ends() if without_rowid else scan.by_rowid():
        # A row that another one's key contradicts is as damaged as one that cannot be read.
        copied += target.execute(f'INSERT OR IGNORE INTO "{table}" VALUES ({places})', row).rowcount
    return Salvaged(table, copied, scan.unreadable)


class _Scan:
    """Reads one table as far as that is possible."""

    def __init__(self, db: sqlite3.Connection, table: str, columns: str) -> None:
        self._db, self._table, self._columns = db, table, columns
        self.unreadable = 0

    def by_rowid(self) -> Iterator[tuple]:
        """The rows of the ranges that can be read, in order."""
        failures = 0
        ranges = [(self._end("min", 1), self._end("max", LAST_ROWID))]
        while ranges and failures < FAILURES:
            first, last = ranges.pop()
            reached = first - 1
            query = (
                f'SELECT rowid, {self._columns} FROM "{self._table}" NOT INDEXED'
                " WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
            )
            try:
                for rowid, *row in self._db.execute(query, (first, last)):
                    reached = rowid
                    yield tuple(row)
            except sqlite3.DatabaseError:
                failures += 1
                first = reached + 1
                if last == LAST_ROWID:  # how far it goes cannot be read
                    last = reached + TAIL
                if first >= last:
                    self.unreadable += 1
                else:
                    middle = (first + last) // 2
                    ranges += [(middle + 1, last), (first, middle)]
        self.unreadable += sum(last - first + 1 for first, last in ranges)

    def from_both_ends(self) -> Iterator[tuple]:
        """Up to the first damage from either end; rows may come twice."""
        for order in ("", " DESC"):
            keys = self._db.execute(f'PRAGMA table_info("{self._table}")').fetchall()
            key = ", ".join(f'"{c[1]}"{order}' for c in sorted(keys, key=lambda c: c[5]) if c[5])
            try:
                yield from self._db.execute(
                    f'SELECT {self._columns} FROM "{self._table}" ORDER BY {key}'
                )
            except sqlite3.DatabaseError:
                self.unreadable = 1
            else:
                return

    def _end(self, which: str, otherwise: int) -> int:
        try:
            [found] = self._db.execute(f'SELECT {which}(rowid) FROM "{self._table}"').fetchone()
        except sqlite3.DatabaseError:
            return otherwise
        return 0 if found is None else found


def _graft_first_page(template: Path, broken: Path) -> None:
    """The same code lays out the same tables: the first page of an empty file fits."""
    with closing(sqlite3.connect(template)) as db:
        db.execute("PRAGMA journal_mode = DELETE")  # nothing of it is in a log then
    head = template.read_bytes()[:100]
    size = int.from_bytes(head[16:18], "big") or 1
    size = 65536 if size == 1 else size
    with template.open("rb") as source, broken.open("r+b") as file:
        page = bytearray(source.read(size))
        pages = broken.stat().st_size // size
        page[28:32] = pages.to_bytes(4, "big")  # the size, believed if 92:96 equals 24:28
        page[92:96] = page[24:28]
        page[32:40] = bytes(8)  # no free pages: theirs are not known
        file.write(page)


def _remove(path: Path) -> None:
    for end in COMPANIONS:
        path.with_name(path.name + end).unlink(missing_ok=True)


def copy_database(path: Path, into: Path) -> Path:
    """Copy a database with its log into a folder; returns the copy."""
    into.mkdir(parents=True, exist_ok=True)
    for end in COMPANIONS[:2]:
        file = path.with_name(path.name + end)
        if file.exists():
            shutil.copyfile(file, into / file.name)
    return into / path.name
