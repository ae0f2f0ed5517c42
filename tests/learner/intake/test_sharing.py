"""Several workers share the partitions of one stream: nothing is lost, nothing counts twice."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
from burnish.feedback.events import Event, encode
from burnish.feedback.stream.record import StreamRecord
from burnish.learner.database import Database
from burnish.learner.intake import consume as intake
from burnish.learner.intake.consume import consume
from burnish.learner.intake.sharing import consume_shared, lease_name
from burnish.learner.intake.upsert import upsert
from burnish.learner.lease import Lease, LeaseLost
from burnish.learner.tables import CreditRow, ExperienceRow, InteractionRow, JudgementRow
from sqlalchemy import func, select, text

from tests.learner.conftest import interaction, retraction, thumbs
from tests.waiting import eventually


class Partitions:
    """A stream in memory whose events lie where the test puts them."""

    system = "test"

    def __init__(self, count: int) -> None:
        self._logs: dict[tuple[str, int], list[StreamRecord]] = defaultdict(list)
        self._count = count

    def put(self, partition: int, event: Event) -> None:
        record, log = encode(event), self._logs[event.topic, partition]
        log.append(
            StreamRecord(
                record.topic, record.key, record.value, record.headers, partition, str(len(log))
            )
        )

    def partitions(self, topic: str) -> list[int]:
        return list(range(self._count))

    def read(
        self, topic: str, partition: int, after: str | None, max_records: int = 500, *_: Any
    ) -> list[StreamRecord]:
        start = 0 if after is None else int(after) + 1
        return self._logs[topic, partition][start : start + max_records]

    def trim(self, *_: Any) -> None: ...

    def publish(self, records: Sequence[StreamRecord]) -> None:
        raise AssertionError(f"dead letters: {records}")


LeaseOf = Callable[[str], Lease]


@pytest.fixture
def leases(redis_client: redis.Redis) -> Callable[[Database], LeaseOf]:
    return lambda database: lambda name: Lease(redis_client, name, 4.0, database=database)


@pytest.fixture
def another(database: Database) -> Iterator[Callable[[], Database]]:
    """The same database as another worker opens it."""
    opened: list[Database] = []

    def open_one() -> Database:
        opened.append(Database(database.url))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def count(database: Database, table: Any) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_held_partition_is_left_to_its_holder(sqlite: Database, leases):
    stream = Partitions(2)
    stream.put(0, interaction(1))
    stream.put(1, interaction(2))
    with leases(sqlite)(lease_name(0)):
        tick = consume_shared(sqlite, stream, leases(sqlite))  # type: ignore[arg-type]
        assert tick is not None
        assert tick.counts == {"interactions": 1}
    tick = consume_shared(sqlite, stream, leases(sqlite))  # type: ignore[arg-type]
    assert tick is not None
    assert tick.counts == {"interactions": 1}
    assert consume_shared(sqlite, stream, leases(sqlite)) is None  # type: ignore[arg-type]


def test_whoever_was_overtaken_writes_nothing(
    database: Database, another: Callable[[], Database], leases, monkeypatch
):
    """Both have read the same records; the second one's transaction finds the offset moved."""
    stream = Partitions(1)
    stream.put(0, interaction(1))
    stream.put(0, thumbs(1))
    decode = intake._decode

    def overtaken(records: Sequence[StreamRecord]):
        monkeypatch.setattr(intake, "_decode", decode)
        other = another()
        with leases(other)("a name of its own") as lease:  # as where the first's ran out
            assert consume(other, stream, lease) is not None  # type: ignore[arg-type]
        return decode(records)

    monkeypatch.setattr(intake, "_decode", overtaken)
    with leases(database)("intake:0") as lease, pytest.raises(LeaseLost, match="another worker"):
        consume(database, stream, lease)  # type: ignore[arg-type]
    assert count(database, InteractionRow) == count(database, JudgementRow) == 1
    with leases(database)("intake:0") as lease:
        assert consume(database, stream, lease) is None  # type: ignore[arg-type]


SESSIONS, ANSWERS = 12, 60


def scattered() -> tuple[Partitions, list[Event]]:
    """Judgements of sessions and retractions, each in another partition than what it is about."""
    stream, events = Partitions(2), []
    for number in range(ANSWERS):
        session = f"s{number % SESSIONS}"
        events.append((1, interaction(number, session_id=session)))
        events.append((0, thumbs(number, "up", interaction_id=None, session_id=session)))
        events.append((0, thumbs(1000 + number, "down", on=number)))
        if number % 3 == 0:
            events.append((1, retraction(1000 + number)))
    for partition, event in events:
        stream.put(partition, event)
    return stream, [event for _, event in events]


def experience(database: Database) -> set[tuple]:
    with database.read() as session:
        credits = session.execute(select(CreditRow.interaction_id, CreditRow.event)).all()
        rows = session.execute(select(ExperienceRow.interaction_id, ExperienceRow.judged_at)).all()
    return {tuple(row) for row in (*credits, *rows)}


def test_what_lies_scattered_is_joined_as_if_one_worker_had_read_it(
    postgres_url: str, sqlite: Database, leases, monkeypatch
):
    monkeypatch.setattr(intake, "BATCH", 4)  # many transactions side by side
    shared = Database(postgres_url)
    shared.migrate()
    stream, events = scattered()
    with sqlite.write() as session:
        upsert(session, events)
    ticks: list[Any] = []
    begin = threading.Barrier(2)

    def work(partition: int) -> None:
        mine = Database(postgres_url)
        begin.wait()
        with leases(mine)(lease_name(partition)) as lease:
            ticks.append(consume(mine, stream, lease, partitions=[partition], seconds=120))  # type: ignore[arg-type]
        mine.close()

    workers = [threading.Thread(target=work, args=[partition]) for partition in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(200)
    assert len(ticks) == 2
    assert experience(shared) == experience(sqlite)
    shared.close()


def test_a_session_and_what_is_said_about_it_meet_though_read_at_once(postgres_url: str):
    """Of two transactions side by side the later one sees what the first has written."""
    one, other = Database(postgres_url), Database(postgres_url)
    one.migrate()
    vote = thumbs(1, interaction_id=None, session_id="s")

    def judge() -> None:
        with other.write() as session:
            upsert(session, [vote])

    judging = threading.Thread(target=judge)
    with one.write() as session:
        upsert(session, [interaction(1, session_id="s")])
        judging.start()
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        with one.read() as watch:
            eventually(lambda: watch.scalar(waiting) or not judging.is_alive(), 30)
    judging.join(30)
    assert count(one, ExperienceRow) == 1
    one.close()
    other.close()
