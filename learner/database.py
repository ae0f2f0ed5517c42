"""The experience database: transactions, migrations, and what more than one room asks of it.

SQLite (WAL) and PostgreSQL by URL, one schema for both (tables.py).
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.learner.tables import CounterRow
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from alembic.config import Config

NEWEST = "0007"  # the last of migrations/versions


class LearnerError(Exception):
    """Root of everything the learner raises on purpose."""


class Database:
    """An engine with two doors: `read()` and `write()`, each one transaction."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)
        self._writer = self.engine.execution_options(burnish_write=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        with Session(self._writer) as session, session.begin():
            yield session

    def migrate(self) -> None:
        """Bring the schema to the newest version; safe when several processes start at once."""
        with _migration_lock(self.engine), self._writer.begin() as connection:
            if is_newest(connection):
                return
            from alembic import command  # half a second, for which most starts have no use

            command.upgrade(alembic_config(connection), "head")

    def forget_deleted(self) -> None:
        """Leave nothing of what was deleted in SQLite's file, which is written anew; needs as much room again.
        PostgreSQL's autovacuum does it by itself."""
        if self.engine.dialect.name == "sqlite":
            with closing(self.engine.raw_connection()) as connection:
                connection.execute("VACUUM")  # type: ignore[attr-defined]
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[attr-defined]

    def close(self) -> None:
        self.engine.dispose()


def next_seq(session: Session, name: str, count: int) -> int:
    """Reserve `count` numbers; the first is returned. Holds a row lock until commit."""
    row = session.get(CounterRow, name, with_for_update=True)
    if row is None:
        row = CounterRow(name=name, value=0)
        session.add(row)
    first = row.value + 1
    row.value += count
    session.flush()
    return first


def take_turns(session: Session) -> None:
    """From here to the end of its transaction alone among those that called this: what one joins, the
    next one sees. SQLite has one writer at a time anyhow."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(624876338)"))


def is_newest(connection: Connection) -> bool:
    if not inspect(connection).has_table("alembic_version"):
        return False
    return connection.scalars(text("SELECT version_num FROM alembic_version")).all() == [NEWEST]


def alembic_config(connection: Connection) -> Config:
    """For the commands of alembic, which then work on this connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": 30.0})

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        # The driver's own transaction handling starts them late and never IMMEDIATE.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # A deferred transaction that turns into a writer halfway fails at once when another
        # wrote in between; a writer therefore queues at the door.
        write = connection.get_execution_options().get("burnish_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


@contextmanager
def _migration_lock(engine: Engine) -> Iterator[None]:
    if engine.dialect.name == "sqlite":
        with Path(f"{engine.url.database}.migrating").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    else:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(624876337)"))
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(624876337)"))
