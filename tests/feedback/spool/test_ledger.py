"""One rule for what stands, on one replica with its own ledger and on two that share one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from burnish.feedback.events import FeedbackEvent, RetractionEvent, decode
from burnish.feedback.judgements import Judgement, standing
from burnish.feedback.spool.ledger import LedgerRow
from burnish.feedback.spool.shared_ledger import SharedLedger
from burnish.feedback.spool.spool import Receipt, Spool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.feedback.conftest import thumbs
from tests.waiting import eventually

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Replicas:
    """Each call goes to the next replica, as behind a load balancer."""

    def __init__(self, spools: list[Spool]) -> None:
        self.spools = spools
        self._turns = itertools.cycle(spools)

    async def post(self, *events: FeedbackEvent) -> list[Receipt]:
        return [await next(self._turns).append(e.topic, e.key, e) for e in events]

    async def retract(self, feedback_id: str) -> RetractionEvent:
        return await next(self._turns).retract("acme", feedback_id)

    def find(self, feedback_id: str) -> LedgerRow | None:
        return next(self._turns).find("acme", feedback_id)

    def on(self, target: str, tenant: str = "acme") -> list[FeedbackEvent]:
        found = [spool.judgements(tenant, target) for spool in self.spools]
        assert all(each == found[0] for each in found)
        return found[0]

    def states(self, *ids: str) -> list[str | None]:
        found = [self.find(feedback_id) for feedback_id in ids]
        return [row.state if row else None for row in found]

    def events(self) -> list:
        """What goes to the stream, in the order of the events' times."""
        taken = [decode(s.record) for spool in self.spools for s in spool.take(1000)]
        return sorted(taken, key=lambda event: event.time)


@pytest.fixture(params=["own", "shared"])
def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Replicas]:
    if request.param == "own":
        spools = [Spool(tmp_path / "spool.db")]
    else:
        request.getfixturevalue("redis_client")
        url = request.getfixturevalue("redis_url")
        spools = [Spool(tmp_path / n, shared=SharedLedger(url, 90)) for n in ("a", "b")]
    yield Replicas(spools)
    for spool in spools:
        spool.close()


async def test_the_last_word_of_a_person_stands_whoever_took_it(replicas: Replicas):
    await replicas.post(
        thumbs("up", id="f1"), thumbs("down", id="f2"), thumbs("up", id="f3", user="bob")
    )
    assert [event.id for event in replicas.on("i1")] == ["f2", "f3"]
    assert replicas.states("f1", "f2", "f3", "f4") == ["superseded", "stands", "stands", None]
    assert replicas.on("i1", tenant="other") == []


async def test_a_repeated_post_is_known_and_another_body_replaces(replicas: Replicas):
    receipts = await replicas.post(thumbs("down"), thumbs("down"), thumbs("up"), thumbs("up"))
    assert [r.status for r in receipts] == ["stored", "unchanged", "replaced", "unchanged"]
    assert receipts[0].event_id == receipts[1].event_id != receipts[2].event_id
    assert receipts[2].event_id == receipts[3].event_id
    assert [event.value for event in replicas.on("i1")] == ["up"]
    assert len({event.time for event in replicas.events()}) == 4


async def test_taken_back_anywhere_and_given_again(replicas: Replicas):
    await replicas.post(thumbs())
    retraction = await replicas.retract("f1")
    assert retraction.interaction_id == "i1"
    assert (replicas.states("f1"), replicas.on("i1")) == (["retracted"], [])
    [again] = await replicas.post(thumbs("up"))
    assert again.status == "stored"
    assert [event.value for event in replicas.on("i1")] == ["up"]


async def test_a_judgement_that_moves_to_another_answer_leaves_the_first(replicas: Replicas):
    await replicas.post(thumbs("up"), thumbs("up", interaction_id="i2"))
    assert replicas.on("i1") == []
    assert [event.id for event in replicas.on("i2")] == ["f1"]


async def test_what_it_had_replaced_does_not_return(replicas: Replicas):
    await replicas.post(thumbs("up", id="f1"), thumbs("down", id="f2"))
    await replicas.retract("f2")
    assert replicas.on("i1") == []
    assert replicas.states("f1", "f2") == ["superseded", "retracted"]


async def test_clocks_that_are_apart_reorder_nothing(replicas: Replicas):
    """The replica that takes the second vote is an hour behind."""
    await replicas.post(
        thumbs("up", time=NOON), thumbs("down", id="f2", time=NOON - timedelta(hours=1))
    )
    first, second = replicas.events()
    assert (first.id, second.id) == ("f1", "f2")
    assert [event.id for event in replicas.on("i1")] == ["f2"]


async def test_session_and_answer_are_two_things(replicas: Replicas):
    session = thumbs("down", id="f2", interaction_id=None, session_id="s1")
    await replicas.post(thumbs("up"), session)
    assert [event.id for event in replicas.on("i1")] == ["f1"]
    assert [event.id for event in replicas.on("s1")] == ["f2"]


# -- Only where it is shared ---------------------------------------------------------------------


async def test_votes_are_taken_while_redis_is_away_and_told_afterwards(
    tmp_path: Path, redis_client: redis.Redis, redis_url: str
):
    clock = [0.0]
    ledgers = [SharedLedger(redis_url, 90, clock=lambda: clock[0]) for _ in range(2)]
    here, there = [Spool(tmp_path / str(n), shared=each) for n, each in enumerate(ledgers)]
    cut_off = ledgers[0]
    cut_off._away_until = 1.0  # as after a failure
    kept = thumbs("up")
    await here.append(kept.topic, kept.key, kept)
    assert [event.id for event in here.judgements("acme", "i1")] == ["f1"]
    assert there.judgements("acme", "i1") == []

    def shown_there() -> list[FeedbackEvent]:
        clock[0] += 1.0
        return there.judgements("acme", "i1")

    eventually(shown_there, 20)
    eventually(lambda: not here.take_unshared(1), 20)
    assert there.find("acme", "f1").state == "stands"  # type: ignore[union-attr]
    for spool in (here, there):
        spool.close()


async def test_what_could_not_be_told_survives_a_restart(
    tmp_path: Path, redis_client: redis.Redis, redis_url: str
):
    away = SharedLedger("redis://127.0.0.1:1/0", 90)
    spool = Spool(tmp_path / "a", shared=away)
    await spool.append(thumbs().topic, "i1", thumbs())
    await spool.retract("acme", "f9")
    assert "BURNISH_REDIS_URL" in str(away.last_error)
    spool.close()
    again = Spool(tmp_path / "a", shared=SharedLedger(redis_url, 90))
    eventually(lambda: not again.take_unshared(1), 20)
    ledger = SharedLedger(redis_url, 90)
    assert [event.id for event in ledger.on("acme", "i1")] == ["f1"]
    again.close()
    ledger.close()


_moves = st.lists(
    st.tuples(
        st.integers(0, 3),  # seconds
        st.sampled_from(["f1", "f2", "f3"]),
        st.sampled_from(["up", "down", "retract"]),
    ),
    max_size=8,
)


@given(_moves, st.randoms(use_true_random=False))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_in_any_order_the_same_stands_as_for_the_learner(
    redis_client: redis.Redis, redis_url: str, moves: list, random
):
    """Entered afterwards in any order, and twice, what stands is what judgements.py says of all."""
    events, judged, gone = [], [], {}
    about = {"f1": "i1", "f2": "i1", "f3": "i2"}
    for number, (seconds, feedback_id, what) in enumerate(moves):
        time = NOON + timedelta(seconds=seconds, microseconds=number)
        if what == "retract":
            retraction = RetractionEvent(
                id=f"r{number}", tenant="acme", feedback_id=feedback_id, time=time
            )
            events.append(retraction)
            gone[feedback_id] = max(time, gone.get(feedback_id, time))
        else:
            event = thumbs(what, id=feedback_id, interaction_id=about[feedback_id]).accepted(time)
            events.append(event)
            judged.append(event)
    shuffled = [*events, *events]
    random.shuffle(shuffled)
    redis_client.flushall()
    ledger = SharedLedger(redis_url, 90)
    for event in shuffled:
        ledger.enter([event], again=True)
    found = {e.id: e.value for target in ("i1", "i2") for e in ledger.on("acme", target)}
    ledger.close()
    last = {e.id: e for e in sorted(judged, key=lambda e: (e.time, e.revision))}
    rows = [
        Judgement(
            id=e.id, tenant="acme", user=e.user, interaction_id=e.interaction_id or "",
            name=e.name, value=e.value, time=e.time.timestamp(), revision=e.revision,
        )
        for e in last.values()
    ]  # fmt: skip
    taken = {("acme", i) for i, until in gone.items() if i in last and until >= last[i].time}
    assert found == {one.id: one.value for one in standing(rows, taken)}


def test_no_vote_looks_through_all_that_a_tenant_said(tmp_path: Path):
    """Or each takes longer than the one before: SQLite would choose the primary key by itself."""
    plans = []
    spool = Spool(tmp_path / "spool.db")
    db, ledger = spool._connect(), spool._ledger

    class Explained:
        def execute(self, query: str, values: tuple = ()) -> object:
            plans.extend(row[-1] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", values))
            return db.execute(query, values)

    explained: Any = Explained()
    ledger.judge(explained, thumbs())
    ledger.on(explained, "acme", "i1")
    ledger.find(explained, "acme", "f1")
    searches = [plan for plan in plans if "SEARCH ledger" in plan]
    assert len(searches) >= 5
    assert not [plan for plan in searches if plan.endswith("(tenant=?)")]
    db.close()
    spool.close()
