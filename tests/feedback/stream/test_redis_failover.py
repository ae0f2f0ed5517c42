"""A master of Redis is killed under load: what was acknowledged with WAIT is on whoever takes over."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from burnish.feedback.contract import FEEDBACK, INTERACTIONS, STREAM_PREFIX
from burnish.feedback.errors import StreamUnavailable
from burnish.feedback.spool.forwarder import Forwarder
from burnish.feedback.spool.spool import Spool
from burnish.feedback.stream.redis_stream import RedisStream

from tests.feedback.conftest import interaction, read_all, records, thumbs
from tests.redis_fleet import ClusterFleet, SentinelFleet
from tests.waiting import eventually

Fleet = SentinelFleet | ClusterFleet


@pytest.fixture(params=[SentinelFleet, ClusterFleet], ids=["sentinel", "cluster"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    made: Fleet = request.param(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def fail_over(fleet: Fleet) -> None:
    """Kill the server that has the feedback's stream, wait for another one to take over, and bring the
    killed one back: a copy, without which a cluster's new master would have none to wait for."""
    if isinstance(fleet, SentinelFleet):
        old = fleet.master()
        assert old is not None
        old.kill()
        eventually(lambda: (fleet.master() or old) is not old, 60)
    else:
        key = STREAM_PREFIX + FEEDBACK
        old = fleet.owner(key)
        assert old is not None
        old.kill()
        eventually(lambda: fleet.owner(key), 60)
    old.start()


@pytest.mark.timeout(200)
def test_what_replicas_have_acknowledged_survives_a_failover(fleet: Fleet):
    stream = RedisStream(fleet.url, durable_timeout_s=2, replicas=1)
    stream.ensure_topics()
    acknowledged: list[str] = []
    stopping = threading.Event()

    def publish() -> None:
        number = 0
        while not stopping.is_set():
            names = [str(number + k) for k in range(20)]
            number += 20
            while not stopping.is_set():  # as the forwarder does: until it is taken
                try:
                    stream.publish(records(FEEDBACK, [("k", name) for name in names]))
                except StreamUnavailable:
                    time.sleep(0.05)
                    continue
                acknowledged.extend(names)
                break

    publishing = threading.Thread(target=publish)
    publishing.start()
    try:
        eventually(lambda: len(acknowledged) > 400, 30)
        fail_over(fleet)
        before = len(acknowledged)
        eventually(lambda: len(acknowledged) > before + 400, 60)
    finally:
        stopping.set()
        publishing.join(30)
    reader = RedisStream(fleet.url)
    found = [record.event_id for record in read_all(reader, FEEDBACK)]
    lost = set(acknowledged) - set(found)
    assert lost == set(), f"{len(lost)} of {len(acknowledged)}"
    in_order = [int(name) for name in dict.fromkeys(found)]
    assert in_order == sorted(in_order)
    reader.close()
    stream.close()


@pytest.mark.timeout(200)
async def test_the_spool_refuses_nothing_and_gives_all_of_it_on(fleet: Fleet, tmp_path: Path):
    spool = Spool(tmp_path / "spool.db")
    stream = RedisStream(fleet.url, durable_timeout_s=2, replicas=1)
    forwarder = Forwarder(spool, stream, longest_pause_s=0.2)
    forwarder.start()
    failing_over = threading.Thread(target=fail_over, args=[fleet])
    for n in range(1500):
        answer, vote = interaction(f"i{n}"), thumbs(id=f"f{n}", interaction_id=f"i{n}")
        for event in (answer, vote):
            await spool.append(event.topic, event.key, event)
        if n == 500:
            failing_over.start()
    failing_over.join(90)
    eventually(lambda: not spool.waiting(), 90)
    forwarder.stop()
    spool.close()
    reader = RedisStream(fleet.url)
    assert len({record.event_id for record in read_all(reader, INTERACTIONS)}) == 1500
    assert len({record.event_id for record in read_all(reader, FEEDBACK)}) == 1500
    reader.close()


@pytest.mark.timeout(100)
def test_without_the_replicas_asked_for_nothing_is_acknowledged(fleet: Fleet):
    stream = RedisStream(fleet.url, durable_timeout_s=0.5, replicas=4)
    with pytest.raises(StreamUnavailable, match="BURNISH_REDIS_REPLICAS asks for 4"):
        stream.publish(records(FEEDBACK, [("k", "1")]))
    stream.close()


def test_a_stream_that_went_back_is_read_from_its_beginning(redis_url: str, redis_client):
    """As after a failover to a copy that had not got as far as the reader."""
    stream = RedisStream(redis_url)
    stream.publish(records(FEEDBACK, [("k", "1")]))
    (found,) = stream.read(FEEDBACK, 0, "99999999999999-0")
    assert found.event_id == "1"
    assert stream.read(FEEDBACK, 0, found.offset) == []
