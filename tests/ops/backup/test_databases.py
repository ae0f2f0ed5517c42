"""PostgreSQL's and Redis's copies, each into an empty one; what is there is never overwritten."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import redis
from burnish.feedback.contract import LEASE_PREFIX
from burnish.feedback.events import encode
from burnish.feedback.settings import StreamSettings
from burnish.feedback.stream.opening import open_stream
from burnish.learner.database import Database
from burnish.learner.intake.consume import consume
from burnish.learner.intake.upsert import upsert
from burnish.learner.lease import Lease
from burnish.learner.tables import InteractionRow, JudgementRow, OffsetRow
from burnish.ops.backup import make, redis_keys, restore
from burnish.ops.backup.databases import dump_postgres, restore_postgres
from burnish.ops.commands.client import ServiceError
from burnish.ops.settings import UpSettings
from rich.console import Console
from sqlalchemy import create_engine, select, text
from sqlalchemy.engine import make_url

from tests.learner.conftest import interaction, thumbs


@pytest.fixture
def new_postgres(postgres_url: str) -> Callable[[str], str]:
    """Makes another empty database beside the test's."""

    def make(name: str) -> str:
        url = make_url(postgres_url)
        named = f"{url.database}_{name}"
        engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{named}"'))
        engine.dispose()
        return url.set(database=named).render_as_string(hide_password=False)

    return make


def fill(url: str) -> None:
    database = Database(url)
    database.migrate()
    with database.write() as session:
        upsert(session, [interaction(1), thumbs(1)])
    database.close()


def judgements(url: str) -> set[str]:
    database = Database(url)
    with database.read() as session:
        found = set(session.scalars(select(JudgementRow.id)))
    database.close()
    return found


def test_a_dump_of_postgres_comes_back(
    postgres_url: str, new_postgres: Callable[[str], str], tmp_path: Path
):
    fill(postgres_url)
    dump_postgres(postgres_url, tmp_path / "dump")
    other = new_postgres("copy")
    restore_postgres(other, tmp_path / "dump")
    assert judgements(other) == {"fb-0001"}
    with pytest.raises(ServiceError, match="has tables already"):
        restore_postgres(other, tmp_path / "dump")


def test_a_database_that_is_down_is_told_by_its_program(tmp_path: Path):
    with pytest.raises(ServiceError, match=r"pg_dump: .*connection"):
        dump_postgres("postgresql://burnish@127.0.0.1:1/burnish", tmp_path / "dump")


def test_redis_comes_back_with_times_to_live_and_without_leases(
    redis_client: redis.Redis, tmp_path: Path
):
    redis_client.set("text", "a")
    redis_client.set("short", "b", px=60_000)
    redis_client.xadd("stream", {"k": "v"}, id="7-1")
    redis_client.zadd("scores", {"x": 1.5})
    redis_client.set(LEASE_PREFIX + "update", "held")
    assert redis_keys.dump(redis_client, tmp_path / "redis.sqlite") == 4
    redis_client.set("text", "a later one")  # its writers go on
    with pytest.raises(ServiceError, match="has keys already"):
        redis_keys.load(redis_client, tmp_path / "redis.sqlite")
    redis_client.flushall()
    assert redis_keys.load(redis_client, tmp_path / "redis.sqlite") == 4
    assert redis_client.get("text") == b"a"
    assert 0 < redis_client.pttl("short") <= 60_000  # type: ignore[operator]
    assert redis_client.xrange("stream") == [(b"7-1", {b"k": b"v"})]
    assert redis_client.zscore("scores", "x") == 1.5
    assert not redis_client.exists(LEASE_PREFIX + "update")


def test_redis_that_takes_too_long_is_given_up_and_its_writers_go_on(
    redis_client: redis.Redis, tmp_path: Path
):
    redis_client.mset({"text": "a", **{f"key-{n}": "x" for n in range(5000)}})
    with pytest.raises(ServiceError, match="more than can be read"):
        redis_keys.dump(redis_client, tmp_path / "redis.sqlite", seconds=0.001)
    redis_client.set("text", "b")


def test_behind_kafka_what_the_learner_has_not_read_comes_back_to_an_empty_one(
    kafka_bootstrap: str,
    redis_url: str,
    redis_client: redis.Redis,
    postgres_url: str,
    new_postgres: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Half of the events were taken in before the backup. Topics are shared by the whole run, so what
    else is in them is refused or taken in as well."""
    monkeypatch.setenv("BURNISH_KAFKA_BOOTSTRAP", kafka_bootstrap)
    monkeypatch.setenv("BURNISH_REDIS_URL", redis_url)
    stream = open_stream(StreamSettings())
    stream.ensure_topics()
    name = tmp_path.name
    ids = [f"chatcmpl-{name}-{n}" for n in range(8)]
    (tmp_path / "data").mkdir()
    database = Database(postgres_url)
    database.migrate()

    def take_in(into: Database) -> None:
        with Lease(redis_client, "intake", 60, database=into) as lease:
            consume(into, stream, lease, seconds=60)

    stream.publish([encode(interaction(id=id)) for id in ids[:4]])
    take_in(database)
    stream.publish([encode(interaction(id=id)) for id in ids[4:]])
    registry = f"sqlite:///{tmp_path}/mlflow.db"
    settings = UpSettings(
        data_dir=tmp_path / "data",
        redis_url=redis_url,
        kafka_bootstrap=kafka_bootstrap,
        database_url=postgres_url,
    )
    where = {"mlflow_database": registry, "mlflow_artifacts": tmp_path / "artifacts"}
    console = Console(file=StringIO())
    make.run(settings, tmp_path / "backup", console, **where)

    redis_client.flushall()
    (tmp_path / "data").rmdir() if not any((tmp_path / "data").iterdir()) else None
    other = new_postgres("restored")
    fresh = settings.model_copy(update={"database_url": other, "data_dir": tmp_path / "new"})
    monkeypatch.setenv("BURNISH_DATABASE_URL", other)
    restore.run(fresh, tmp_path / "backup", console, **where)
    restored = Database(other)
    with restored.read() as session:
        before = set(session.scalars(select(InteractionRow.id)))
        assert set(ids[:4]) <= before
        assert not session.scalars(select(OffsetRow)).all()
    take_in(restored)
    with restored.read() as session:
        assert set(ids) <= set(session.scalars(select(InteractionRow.id)))
    restored.close()
    database.close()
    stream.close()
