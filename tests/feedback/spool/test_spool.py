"""What the spool has acknowledged is there, whatever happens to the process."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from burnish.feedback.errors import EventTooLarge, SpoolError, SpoolFull
from burnish.feedback.events import decode
from burnish.feedback.spool.spool import Receipt, Spool

from tests.feedback.conftest import interaction, thumbs


async def post(spool: Spool, *events) -> list[Receipt]:
    return [await spool.append(event.topic, event.key, event) for event in events]


def waiting(spool: Spool) -> list:
    return [decode(spooled.record) for spooled in spool.take(1000)]


async def test_events_wait_in_order_until_they_are_deleted(spool: Spool) -> None:
    events = [interaction(f"i{n}") for n in range(5)]
    await post(spool, *events)
    assert waiting(spool) == events
    taken = spool.take(2)
    assert [decode(spooled.record) for spooled in taken] == events[:2]
    spool.delete(spooled.seq for spooled in taken)
    assert waiting(spool) == events[2:]
    assert spool.waiting() == 3


async def test_what_was_acknowledged_is_there_after_opening_again(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool.db")
    await post(first, interaction("i1"), thumbs())
    first.close()
    second = Spool(tmp_path / "spool.db")
    assert [event.id for event in waiting(second)] == ["i1", "f1"]
    assert (second.waiting(), second.waiting_bytes()) == (2, first.waiting_bytes())
    assert [event.id for event in second.judgements("acme", "i1")] == ["f1"]
    second.close()


@pytest.mark.parametrize("count", [21, 100])
def test_kill_9_in_mid_write_loses_nothing_acknowledged(tmp_path: Path, count: int) -> None:
    path = tmp_path / "spool.db"
    child = Path(__file__).with_name("spool_child.py")
    process = subprocess.Popen([sys.executable, child, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().decode().strip() for _ in range(count)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.read().decode().split()
    process.wait()
    assert len(acknowledged) >= count
    spool = Spool(path)
    found = [event.id for spooled in spool.take(10**6, 10**9) for event in [decode(spooled.record)]]
    spool.close()
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))


async def test_many_at_once_share_their_commits(spool: Spool) -> None:
    events = [interaction(f"i{n}") for n in range(200)]
    await asyncio.gather(*(spool.append(e.topic, e.key, e) for e in events))
    assert {event.id for event in waiting(spool)} == {event.id for event in events}


async def test_a_full_spool_says_so_and_takes_again_once_there_is_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", max_bytes=5000)
    with pytest.raises(SpoolFull):
        await post(spool, *(interaction(f"i{n}") for n in range(100)))
    assert 0 < spool.waiting_bytes() <= 5000
    held = spool.waiting()
    with pytest.raises(SpoolFull):
        await asyncio.gather(*(post(spool, interaction(f"x{n}")) for n in range(20)))
    assert spool.waiting_bytes() <= 5000
    spool.delete(spooled.seq for spooled in spool.take(1000))
    assert (spool.waiting(), spool.waiting_bytes()) == (0, 0)
    await post(spool, *(interaction(f"j{n}") for n in range(held)))
    spool.close()


async def test_an_event_that_the_stream_would_refuse_is_refused_at_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", max_event_bytes=2000)
    with pytest.raises(EventTooLarge):
        await post(spool, thumbs("x" * 3000, name="comment"))
    assert spool.waiting() == 0
    spool.close()


async def test_a_batch_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", max_bytes=3000)
    batch = [("t", f"k{n}", interaction(f"i{n}")) for n in range(50)]
    with pytest.raises(SpoolFull):
        await spool.append_many(batch)
    assert spool.waiting() == 0
    receipts = await spool.append_many(batch[:2])
    assert [receipt.status for receipt in receipts] == ["stored", "stored"]
    spool.close()


async def test_the_same_feedback_twice_is_one_event_heard_again(spool: Spool) -> None:
    [first] = await post(spool, thumbs("down"))
    [again] = await post(spool, thumbs("down"))
    assert (first.status, again.status) == ("stored", "unchanged")
    assert first.event_id == again.event_id
    before, after = waiting(spool)  # another server may have heard otherwise in between
    assert before.time < after.time
    assert before.event_id == after.event_id
    assert len(spool.judgements("acme", "i1")) == 1


async def test_another_body_under_the_same_id_replaces(spool: Spool) -> None:
    receipts = await post(spool, thumbs("down"), thumbs("up"), thumbs("up"), thumbs("down"))
    assert [r.status for r in receipts] == ["stored", "replaced", "unchanged", "replaced"]
    events = waiting(spool)
    assert [event.value for event in events] == ["down", "up", "up", "down"]
    times = [event.time for event in events]
    assert times == sorted(set(times))
    assert len({event.event_id for event in events}) == 3
    [standing] = spool.judgements("acme", "i1")
    assert standing.value == "down"


async def test_the_last_judgement_of_a_user_under_a_name_stands(spool: Spool) -> None:
    await post(spool, thumbs("down", id="f1"), thumbs("up", id="f2"))
    [standing] = spool.judgements("acme", "i1")
    assert (standing.id, standing.value) == ("f2", "up")
    assert spool.get("acme", "f1") is None
    row = spool.find("acme", "f1")
    assert row is not None
    assert row.state == "superseded"
    assert spool.waiting() == 2  # the stream hears of both, in order


async def test_others_are_not_in_each_others_way(spool: Spool) -> None:
    await post(
        spool,
        thumbs(id="f1"),
        thumbs(id="f2", user="ben"),
        thumbs(id="f3", user=None),
        thumbs(id="f4", choice=1),
        thumbs(0.5, id="f5", name="score"),
        thumbs(id="f6", interaction_id=None, session_id="s1"),
        thumbs(id="f1", tenant="other"),
    )
    assert {event.id for event in spool.judgements("acme", "i1")} == {"f1", "f2", "f3", "f4", "f5"}
    assert [event.id for event in spool.judgements("acme", "s1")] == ["f6"]
    assert [event.tenant for event in spool.judgements("other", "i1")] == ["other"]
    assert spool.get("other", "f2") is None


async def test_anonymous_judgements_replace_each_other_too(spool: Spool) -> None:
    await post(spool, thumbs("up", id="f1", user=None), thumbs("down", id="f2", user=None))
    assert [event.id for event in spool.judgements("acme", "i1")] == ["f2"]


async def test_a_retracted_judgement_is_gone_until_it_is_given_again(spool: Spool) -> None:
    await post(spool, thumbs())
    event = await spool.retract("acme", "f1")
    assert (event.feedback_id, event.interaction_id) == ("f1", "i1")
    assert spool.judgements("acme", "i1") == []
    assert spool.get("acme", "f1") is None
    [again] = await post(spool, thumbs("up"))
    assert again.status == "stored"
    assert [event.value for event in spool.judgements("acme", "i1")] == ["up"]
    events = waiting(spool)
    assert [type(waits).__name__ for waits in events] == [
        "FeedbackEvent", "RetractionEvent", "FeedbackEvent",
    ]  # fmt: skip
    assert events[0].time < events[1].time < events[2].time


async def test_every_retraction_is_heard(spool: Spool) -> None:
    await post(spool, thumbs())
    for _ in range(2):
        await spool.retract("acme", "f1")
    assert spool.waiting() == 3  # in between another server may have heard it given again


async def test_what_another_server_accepted_can_be_taken_back(spool: Spool) -> None:
    event = await spool.retract("acme", "f1", "i1")
    assert (event.feedback_id, event.key) == ("f1", "i1")
    assert waiting(spool) == [event]


async def test_another_tenants_id_is_another_judgement(spool: Spool) -> None:
    await post(spool, thumbs())
    await spool.retract("other", "f1")
    assert len(spool.judgements("acme", "i1")) == 1


async def test_a_clock_that_was_set_back_reorders_nothing(spool: Spool) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    await post(
        spool,
        thumbs("up", time=noon),
        thumbs("down", time=noon - timedelta(hours=1)),
        thumbs("up", id="f2", time=noon - timedelta(hours=2)),
    )
    times = [event.time for event in waiting(spool)]
    assert times == [noon + n * timedelta(microseconds=1) for n in range(3)]
    assert [event.id for event in spool.judgements("acme", "i1")] == ["f2"]


async def test_what_was_superseded_stands_when_it_is_said_again(spool: Spool) -> None:
    await post(spool, thumbs("up"), thumbs("down", id="f2"), thumbs("up"))
    assert [event.id for event in spool.judgements("acme", "i1")] == ["f1"]
    assert [event.id for event in waiting(spool)] == ["f1", "f2", "f1"]


async def test_a_job_that_fails_costs_neither_the_others_nor_the_writer(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path / "spool.db")
    await post(spool, thumbs())
    spool.close()
    with sqlite3.connect(tmp_path / "spool.db") as db:
        db.execute("UPDATE ledger SET body = 'no JSON'")
    db.close()
    spool = Spool(tmp_path / "spool.db")
    good, bad, also = (
        spool.submit([(event.topic, event.key, event)])
        for event in (thumbs(id="f2"), thumbs(), thumbs(id="f3"))
    )
    assert good.result(5)[0].status == also.result(5)[0].status == "stored"
    with pytest.raises(SpoolError, match="JSON"):
        bad.result(5)
    await post(spool, thumbs(id="f4"))
    assert spool.waiting() == 4
    spool.close()


async def test_old_judgements_are_let_go(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", ledger_days=1)
    await post(spool, thumbs())
    spool.close()
    with sqlite3.connect(tmp_path / "spool.db") as db:
        db.execute("UPDATE ledger SET at = at - 90000")
    again = Spool(tmp_path / "spool.db", ledger_days=1)
    await post(again, interaction())
    assert again.find("acme", "f1") is None
    again.close()


async def test_a_second_process_is_refused_the_file(tmp_path: Path, spool: Spool) -> None:
    with pytest.raises(SpoolError, match="in use"):
        Spool(spool.path)


async def test_a_file_that_is_no_spool_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_text("something else entirely, long enough to be looked at" * 50)
    with pytest.raises(SpoolError, match=r"spool\.db"):
        Spool(tmp_path / "spool.db")
    with pytest.raises(SpoolError, match="not a database"):
        Spool(tmp_path / "spool.db")  # and the refusal did not keep the lock


async def test_a_closed_spool_takes_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    spool.close()
    spool.close()
    with pytest.raises(SpoolError, match="closed"):
        await post(spool, thumbs())


async def test_a_disk_that_fails_fails_the_request_and_not_the_spool(spool: Spool) -> None:
    # A table that is gone stands for any error of the database.
    db = sqlite3.connect(spool.path, isolation_level=None)
    db.execute("DROP TABLE outbox")
    with pytest.raises(SpoolError):
        await post(spool, interaction())
    assert spool.waiting_bytes() == 0
    db.execute(
        "CREATE TABLE outbox (seq INTEGER PRIMARY KEY, topic, key, headers, value, bytes INTEGER)"
    )
    db.close()
    assert (await post(spool, interaction()))[0].status == "stored"
    assert spool.waiting() == 1
