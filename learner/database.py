"""The experience database: what arrived, what was joined, and which version learnt from it.

SQLite (WAL) and PostgreSQL by URL, one schema for both. Times are seconds since the epoch, because
SQLite has no timestamps with a zone. Rows join by value, without foreign keys: feedback may arrive
before its interaction. Erasure and retention are left out.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    Double,
    Engine,
    Index,
    LargeBinary,
    MetaData,
    Text,
    create_engine,
    event,
    inspect,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

if TYPE_CHECKING:
    from alembic.config import Config

NEWEST = "0003"  # the last of migrations/versions


class LearnerError(Exception):
    """Root of everything the learner raises on purpose."""


class Base(DeclarativeBase):
    # Named constraints, so that a later migration can drop them on either database.
    metadata = MetaData(
        naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(column_0_label)s"}
    )
    type_annotation_map = {
        float: Double,
        dict[str, Any]: JSON,
        list[Any]: JSON,
        Any: JSON,
        bytes: LargeBinary,
    }


class InteractionRow(Base):
    __tablename__ = "interaction"
    __table_args__ = (
        Index("ix_interaction_session", "tenant", "session_id"),
        Index("ix_interaction_policy", "policy", "time"),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    time: Mapped[float]
    tenant: Mapped[str]
    user: Mapped[str | None]
    session_id: Mapped[str | None]
    policy: Mapped[str]
    version: Mapped[int]
    messages: Mapped[list[Any]]
    tools: Mapped[list[Any] | None]
    prompt_ids: Mapped[list[Any]]
    sampling: Mapped[dict[str, Any]]
    memories: Mapped[list[Any]]
    meta: Mapped[dict[str, Any]] = mapped_column("metadata")


class CompletionRow(Base):
    __tablename__ = "completion"
    interaction_id: Mapped[str] = mapped_column(primary_key=True)
    choice: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    token_ids: Mapped[list[Any]]
    logprobs: Mapped[list[Any]]
    processed_logprobs: Mapped[list[Any]]
    text: Mapped[str] = mapped_column(Text)
    finish_reason: Mapped[str]
    tool_calls: Mapped[list[Any] | None]


class JudgementRow(Base):
    """The last feedback event of those sent under one id, by (`time`, `revision`). `key_id`: of the
    API key that sent it."""

    __tablename__ = "judgement"
    __table_args__ = (
        Index("ix_judgement_interaction", "interaction_id"),
        Index("ix_judgement_session", "tenant", "session_id"),
    )
    tenant: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    time: Mapped[float]
    user: Mapped[str | None]
    key_id: Mapped[str | None]
    interaction_id: Mapped[str | None]
    session_id: Mapped[str | None]
    choice: Mapped[int]
    name: Mapped[str]
    value: Mapped[Any]
    rationale: Mapped[str | None] = mapped_column(Text)
    meta: Mapped[dict[str, Any]] = mapped_column("metadata")


class RetractionRow(Base):
    """Kept apart from the judgement, since it may arrive first: what was given under this id until
    `time` is taken back."""

    __tablename__ = "retraction"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    feedback_id: Mapped[str] = mapped_column(primary_key=True)
    time: Mapped[float]


class UnmatchedRow(Base):
    """A judgement whose answer or session has not arrived (yet): since when it waits."""

    __tablename__ = "unmatched"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[float] = mapped_column(index=True)


class ExperienceRow(Base):
    """An answer on which a judgement stands: a pure function of the tables above."""

    __tablename__ = "experience"
    __table_args__ = (Index("ix_experience_policy", "policy", "judged_at"),)
    interaction_id: Mapped[str] = mapped_column(primary_key=True)
    choice: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    policy: Mapped[str]
    version: Mapped[int]
    tenant: Mapped[str]
    user: Mapped[str | None]
    judged_at: Mapped[float]


class CreditRow(Base):
    """Which judgement (as `tenant/id`, with `#revision` when revised) made which experience.

    `seq` numbers the judgements in the order in which they first counted for a policy.
    """

    __tablename__ = "credit"
    __table_args__ = (Index("ix_credit_policy", "policy", "seq"),)
    interaction_id: Mapped[str] = mapped_column(primary_key=True)
    choice: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event: Mapped[str] = mapped_column(primary_key=True, index=True)
    policy: Mapped[str]
    seq: Mapped[int] = mapped_column(BigInteger)


class FeatureRow(Base):
    """What the frozen base makes of a judged answer, as float16; computed once per base."""

    __tablename__ = "feature"
    interaction_id: Mapped[str] = mapped_column(primary_key=True)
    choice: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    base_sha256: Mapped[str] = mapped_column(primary_key=True)
    vector: Mapped[bytes]


class OffsetRow(Base):
    __tablename__ = "stream_offset"
    topic: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[str]


class FenceRow(Base):
    """The highest fencing token that ever wrote under a lease's name."""

    __tablename__ = "fence"
    name: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger)


class AttemptRow(Base):
    """One attempt at a new version, so that a killed one is taken up where it stood."""

    __tablename__ = "attempt"
    id: Mapped[str] = mapped_column(primary_key=True)
    policy: Mapped[str] = mapped_column(index=True)
    state: Mapped[str]
    parent: Mapped[int]
    high_water: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[float]
    version: Mapped[int | None]
    tries: Mapped[int] = mapped_column(server_default="0")
    problem: Mapped[str | None] = mapped_column(Text)


class VersionEventRow(Base):
    """Lineage: the judgements that were new to a version. Along one line of ancestors every
    judgement stands once."""

    __tablename__ = "version_event"
    policy: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event: Mapped[str] = mapped_column(primary_key=True, index=True)


class TickRow(Base):
    __tablename__ = "tick"
    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    policy: Mapped[str]
    at: Mapped[float] = mapped_column(index=True)
    seconds: Mapped[float]
    did: Mapped[str] = mapped_column(Text)
    why_not: Mapped[str | None] = mapped_column(Text)
    counts: Mapped[dict[str, Any]]


class CounterRow(Base):
    """Numbers rows in the order they were committed; a database sequence would leave gaps that
    fill in late, and a reader's high-water mark would step over them."""

    __tablename__ = "counter"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


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
