"""Several servers, each with a spool of its own: the last write wins, whichever heard it."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from burnish.feedback.events import Event, decode
from burnish.feedback.spool.spool import Spool
from burnish.learner.database import Database
from burnish.learner.intake.joining import standing_judgements
from burnish.learner.intake.upsert import upsert
from burnish.learner.tables import CreditRow, JudgementRow
from sqlalchemy import select

from tests.learner.conftest import START, interaction, thumbs

ANSWER = ("chatcmpl-0001", 0)


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[tuple[Spool, Spool]]:
    spools = Spool(tmp_path / "a.db"), Spool(tmp_path / "b.db")
    yield spools
    for spool in spools:
        spool.close()


def events(*spools: Spool) -> list[Event]:
    return [decode(spooled.record) for spool in spools for spooled in spool.take(100)]


def value(database: Database, heard: Sequence[Event]) -> str | float | None:
    """What stands on the answer after these events."""
    with database.write() as session:
        upsert(session, [interaction(1), *heard])
    with database.read() as session:
        standing = standing_judgements(session, [ANSWER])[ANSWER]
    return standing[0].value if standing else None


@pytest.fixture(params=["a first", "b first"])
def heard(request: pytest.FixtureRequest, replicas) -> Callable[[], list[Event]]:
    order = replicas if request.param == "a first" else replicas[::-1]
    return lambda: events(*order)


async def post(spool: Spool, value: str, minute: int) -> None:
    event = thumbs(1, value, time=START + timedelta(minutes=minute))
    await spool.append(event.topic, event.key, event)


async def test_a_vote_changed_through_another_replica_counts(sqlite: Database, replicas, heard):
    a, b = replicas
    await post(a, "up", 1)
    await post(b, "down", 2)
    assert value(sqlite, heard()) == "down"


async def test_a_vote_changed_to_and_fro_counts_as_given_last(sqlite: Database, replicas, heard):
    a, b = replicas
    await post(a, "up", 1)
    await post(b, "down", 2)
    await post(a, "up", 3)
    assert value(sqlite, heard()) == "up"


async def test_a_vote_changed_after_the_ledger_forgot_it_counts(sqlite: Database, tmp_path: Path):
    spool = Spool(tmp_path / "c.db", ledger_days=1e-9)
    await post(spool, "up", 1)
    await post(spool, "down", 2)
    assert value(sqlite, events(spool)) == "down"
    spool.close()


async def test_a_vote_is_taken_back_through_another_replica(sqlite: Database, replicas, heard):
    a, b = replicas
    await post(a, "up", 1)
    await b.retract("local", "fb-0001")
    assert value(sqlite, heard()) is None


async def test_a_vote_given_again_after_its_retraction_counts(sqlite: Database, replicas):
    a, b = replicas
    await post(a, "up", 1)
    await b.retract("local", "fb-0001")
    again = thumbs(1, "down").model_copy(update={"time": events(b)[0].time + timedelta(seconds=1)})
    await a.append(again.topic, again.key, again)
    assert value(sqlite, events(a, b)) == "down"
    await b.retract("local", "fb-0001")
    assert value(sqlite, events(a, b)) == "down", "taken back before it was given again"


async def test_a_retry_is_not_a_new_judgement(sqlite: Database, replicas):
    a, _ = replicas
    await post(a, "up", 1)
    value(sqlite, events(a))
    with sqlite.read() as session:
        before = session.scalars(select(CreditRow.seq)).all()
    await post(a, "up", 2)
    value(sqlite, events(a))
    with sqlite.read() as session:
        assert session.scalars(select(CreditRow.seq)).all() == before
        (row,) = session.scalars(select(JudgementRow))
        assert row.time == (START + timedelta(minutes=2)).timestamp()


async def test_votes_from_before_revisions_were_times_lose_to_those_since(
    sqlite: Database, replicas
):
    a, _ = replicas
    old = [thumbs(1, "up"), thumbs(1, "down", revision=1, time=START + timedelta(minutes=3))]
    assert value(sqlite, old) == "down"
    await post(a, "up", 9)
    assert value(sqlite, events(a)) == "up"
    assert value(sqlite, old) == "up"
