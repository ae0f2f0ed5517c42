"""After an erasure the weights begin anew without what is gone, and what held it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import redis
from burnish.feedback.contract import ERASURES_KEY
from burnish.feedback.erasures import Erasure, Erasures
from burnish.learner.intake import receipts
from burnish.learner.intake.upsert import upsert
from burnish.learner.tables import AttemptRow, ErasureReceiptRow, InteractionRow, JudgementRow
from burnish.learner.training import checkpoint
from burnish.learner.update import held
from burnish.learner.update.tick import Learner
from burnish.serving.registry import RegistryError
from sqlalchemy import select, update

from tests.learner.update.conftest import add_judged


@pytest.fixture
def erasures(redis_url: str, redis_client: redis.Redis) -> Iterator[Erasures]:
    made = Erasures(redis_url)
    yield made
    made.close()


@pytest.fixture
def erase(erasures: Erasures, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Erasure]:
    monkeypatch.setattr(receipts, "SETTLES_S", 0.0)

    def erase(learner: Learner, user: str = "eve") -> Erasure:
        made = erasures.request("local", user, by="test")
        erasures.advance(made.id, "served")
        assert receipts.carry_out(learner.database, erasures, learner.redis) == 1
        found = erasures.get(made.id)
        assert found is not None
        return found

    return erase


def give(learner: Learner, user: str, numbers: range) -> None:
    """These answers and votes are that user's."""
    asked = [f"chatcmpl-{n:04}" for n in numbers]
    with learner.database.write() as session:
        for table, column in (
            (InteractionRow, InteractionRow.id),
            (JudgementRow, JudgementRow.interaction_id),
        ):
            session.execute(
                update(table).where(column.in_(asked)).values(user=user, time=time.time())
            )


def checkpoint_of(learner: Learner, version: int) -> checkpoint.Checkpoint | None:
    with learner.database.read() as session:
        id = session.scalars(select(AttemptRow.id).where(AttemptRow.version == version)).one()
    return checkpoint.load(learner.settings.checkpoints / "default" / id)


def receipt_of(learner: Learner, erasure: Erasure) -> ErasureReceiptRow:
    with learner.database.read() as session:
        return session.get_one(ErasureReceiptRow, erasure.id)


def test_the_next_version_begins_anew_and_what_held_it_is_deleted(
    learner_with: Callable[..., Learner], erase: Callable[..., Erasure], erasures: Erasures
):
    learner = learner_with()
    add_judged(learner.database, range(1, 25))
    give(learner, "bob", range(1, 17))
    give(learner, "eve", range(17, 25))
    learner.tick("default")
    before = learner.registry.get("default", 2)
    told = erase(learner)
    assert (told.state, told.user, told.held) == ("weights", None, {"default": [2]})
    assert told.removed["database"]["interactions"] == 8
    assert told.removed["database"]["judgements"] == 8
    assert held.release(learner.database, learner.registry, learner.settings) == []
    assert learner.registry.fetch(before, learner.settings.data_dir / "still") is not None

    tick = learner.tick("default")
    assert tick is not None
    assert tick.counts["version"] == 3, tick
    assert learner.registry.champion_version("default") == 3
    anew = checkpoint_of(learner, 3)
    assert anew is not None
    assert anew.progress.since_base == 0
    assert anew.progress.generation == 2, "it trains as long as its line has"
    assert learner.registry.get("default", 3).gate_report["passed"]  # type: ignore[index]

    (complete,) = held.release(learner.database, learner.registry, learner.settings)
    assert (complete.id, complete.versions) == (told.id, {"default": [2]})
    assert checkpoint_of(learner, 2) is None
    with pytest.raises(RegistryError):
        learner.registry.fetch(before, learner.settings.data_dir / "anew")
    assert learner.registry.get("default", 2).aliases == ()
    assert learner.registry.get("default", 3).aliases == ("champion",)
    assert held.release(learner.database, learner.registry, learner.settings) == []

    add_judged(learner.database, range(25, 31))
    tick = learner.tick("default")
    assert tick is not None
    assert tick.counts.get("version") == 4, tick
    child = checkpoint_of(learner, 4)
    assert child is not None
    assert child.progress.since_base == 1, "the new champion is learnt on as ever"


def test_where_too_little_is_left_the_base_serves(
    learner_with: Callable[..., Learner], erase: Callable[..., Erasure]
):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))
    give(learner, "bob", range(1, 5))
    give(learner, "eve", range(5, 13))
    learner.tick("default")
    erase(learner)
    tick = learner.tick("default")
    assert tick is not None
    assert "4 judged answers are left" in tick.did
    assert learner.registry.champion_version("default") == 1
    assert len(held.release(learner.database, learner.registry, learner.settings)) == 1


def test_who_was_never_learnt_from_costs_no_version(
    learner_with: Callable[..., Learner], erase: Callable[..., Erasure], erasures: Erasures
):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))
    give(learner, "bob", range(1, 13))
    learner.tick("default")
    told = erase(learner)
    assert (told.held, told.state) == ({}, "finished")
    assert held.release(learner.database, learner.registry, learner.settings) == []
    tick = learner.tick("default")
    assert tick is not None
    assert tick.did == "trained nothing"
    assert learner.registry.champion_version("default") == 2


def test_an_attempt_that_was_under_way_is_abandoned_and_nothing_is_complete_before(
    learner_with: Callable[..., Learner], erase: Callable[..., Erasure]
):
    learner = learner_with()
    add_judged(learner.database, range(1, 25))
    give(learner, "bob", range(1, 17))
    give(learner, "eve", range(17, 25))
    learner.tick("default")
    with learner.database.write() as session:
        session.add(
            AttemptRow(
                id="caught",
                policy="default",
                state="training",
                parent=2,
                high_water=99,
                started_at=time.time(),
                version=None,
            )
        )
    erasure = erase(learner)
    assert held.release(learner.database, learner.registry, learner.settings) == []
    learner.tick("default")
    with learner.database.read() as session:
        assert session.get_one(AttemptRow, "caught").state == "abandoned"
    held.release(learner.database, learner.registry, learner.settings)
    assert receipt_of(learner, erasure).state == "finished"


def test_a_crash_between_database_and_receipt_loses_and_counts_nothing_twice(
    learner_with: Callable[..., Learner], erasures: Erasures, monkeypatch: pytest.MonkeyPatch
):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))
    made = erasures.request("local", "ada", by="test")
    erasures.add_removed(made.id, "memory", {"steps": 3})
    erasures.advance(made.id, "served")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(type(learner.database), "forget_deleted", crash)
        with pytest.raises(KeyboardInterrupt):
            receipts.carry_out(learner.database, erasures, learner.redis)
    assert [e.id for e in erasures.under_way("served")] == [made.id]
    receipts.carry_out(learner.database, erasures, learner.redis)
    receipts.carry_out(learner.database, erasures, learner.redis)
    found = erasures.get(made.id)
    assert found is not None
    assert found.removed["database"]["interactions"] == 12
    assert found.removed["memory"] == {"steps": 3}
    with learner.database.read() as session:
        assert not list(session.scalars(select(InteractionRow)))


def test_a_dry_run_counts_and_changes_nothing(
    learner_with: Callable[..., Learner], erasures: Erasures
):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))
    learner.tick("default")
    made = erasures.request("local", "ada", by="test", dry_run=True)
    receipts.count(learner.database, erasures, made.id)
    found = erasures.get(made.id)
    assert found is not None
    assert (found.state, found.removed["database"]["interactions"]) == ("finished", 12)
    with learner.database.read() as session:
        assert len(list(session.scalars(select(InteractionRow.id)))) == 12
    assert learner.redis.smembers(ERASURES_KEY) == set()


def test_what_arrives_late_stays_out(
    learner_with: Callable[..., Learner], erase: Callable[..., Erasure]
):
    learner = learner_with()
    erase(learner, "ada")
    with learner.database.write() as session:
        from tests.learner.conftest import interaction

        counts = upsert(session, [interaction(1), interaction(2, user="bob")])
    assert (counts.erased, counts.interactions) == (1, 1)
