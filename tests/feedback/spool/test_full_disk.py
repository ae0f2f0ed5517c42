"""A full disk: nothing acknowledged is lost, deleting still works, and it recovers by itself."""

import shutil
from pathlib import Path

import pytest
from burnish.feedback.disk import DiskSpace
from burnish.feedback.errors import DiskFull, SpoolError
from burnish.feedback.events import decode
from burnish.feedback.spool.forwarder import Forwarder
from burnish.feedback.spool.reserve import RESERVE_BYTES
from burnish.feedback.spool.spool import Spool
from burnish.feedback.stream.redis_stream import RedisStream
from burnish.ops.bench.lib.small_disk import SmallDisk

from tests.conftest import RedisServer, missing
from tests.feedback.conftest import interaction, read_all
from tests.waiting import eventually

MB = 10**6


async def store(spool: Spool, *names: str) -> None:
    for name in names:
        event = interaction(name)
        await spool.append(event.topic, event.key, event)


async def store_until_refused(spool: Spool, prefix: str = "i") -> list[str]:
    """The ids acknowledged before the first DiskFull."""
    for n in range(10**5):
        try:
            await store(spool, f"{prefix}{n}")
        except DiskFull:
            return [f"{prefix}{i}" for i in range(n)]
    raise AssertionError("the disk never fills")


def ids(spool: Spool) -> list[str]:
    return [decode(one.record).event_id for one in spool.take(10**6, 10**9)]


async def test_a_full_disk_refuses_with_the_folder_and_what_is_free(small_disk: SmallDisk) -> None:
    spool = Spool(small_disk.folder / "spool.db", disk=DiskSpace(small_disk.folder, 20 * MB))
    await store(spool, "i0")
    small_disk.fill(leave=4 * MB)
    with pytest.raises(DiskFull, match=rf"{small_disk.folder} has \d+\.\d MB free"):
        await store(spool, "i1")
    assert ids(spool) == ["i0"]
    small_disk.clear()
    await store(spool, "i1")
    assert ids(spool) == ["i0", "i1"]
    spool.close()


async def test_deleting_works_on_a_disk_without_a_byte(small_disk: SmallDisk) -> None:
    spool = Spool(small_disk.folder / "spool.db")
    await store(spool, *(f"i{n}" for n in range(50)))
    small_disk.fill()
    stored = await store_until_refused(spool, "late")
    assert small_disk.free() >= RESERVE_BYTES // 2  # given up for those that delete
    taken = spool.take(1000)
    spool.delete(one.seq for one in taken)
    assert spool.waiting() == 50 + len(stored) - len(taken)
    with pytest.raises(DiskFull):  # the reserve is for deleting
        await store(spool, "refused")
    small_disk.clear()
    await store(spool, "after")
    assert ids(spool)[-1] == "after"
    small_disk.fill()
    spool.delete(one.seq for one in spool.take(1))  # it was made again
    spool.close()


async def test_a_spool_opens_on_a_full_disk_with_all_it_acknowledged(small_disk: SmallDisk) -> None:
    spool = Spool(small_disk.folder / "spool.db")
    await store(spool, "i0", "i1")
    small_disk.fill()
    spool.close()
    again = Spool(small_disk.folder / "spool.db")
    assert ids(again) == ["i0", "i1"]
    late = await store_until_refused(again, "late")
    assert ids(again) == ["i0", "i1", *late]
    small_disk.clear()
    await store(again, "i2")
    again.close()


async def test_it_drains_into_redis_on_the_same_disk_once_there_is_space(
    small_disk: SmallDisk,
) -> None:
    folder = small_disk.folder / "redis"
    folder.mkdir()
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        missing("redis-server is not installed (Debian: redis-server)")
    server = RedisServer(binary, folder, appendfsync="always")
    server.start()
    spool = Spool(small_disk.folder / "spool.db")
    stream = RedisStream(server.url, durable_timeout_s=1)
    forwarder = Forwarder(spool, stream, longest_pause_s=0.2)
    small_disk.fill(leave=200_000)
    forwarder.start()
    stored = await store_until_refused(spool)
    small_disk.fill()
    eventually(lambda: forwarder.last_error or spool.waiting() == 0)
    server.kill()  # an append-only server ends by itself where it cannot write
    small_disk.clear()
    server.start()
    await store(spool, "after")
    eventually(lambda: spool.waiting() == 0)
    found = {decode(record).event_id for record in read_all(stream, interaction().topic)}
    assert {*stored, "after"} <= found
    forwarder.stop()
    spool.close()
    server.stop()


async def test_a_spool_whose_deletion_fails_publishes_nothing_twice(tmp_path: Path) -> None:
    class NoRoomToDelete(Spool):
        full = True

        def delete(self, seqs) -> None:
            if self.full:
                raise SpoolError("no room")
            super().delete(seqs)

    class Counting:
        system = "test"
        published = 0

        def ensure_topics(self) -> None: ...

        def publish(self, records) -> None:
            self.published += len(records)

        def close(self) -> None: ...

    spool, stream = NoRoomToDelete(tmp_path / "spool.db"), Counting()
    await store(spool, "i0", "i1")
    forwarder = Forwarder(spool, stream, longest_pause_s=0.01)  # type: ignore[arg-type]
    forwarder.start()
    eventually(lambda: forwarder.last_error)
    NoRoomToDelete.full = False
    eventually(lambda: spool.waiting() == 0)
    assert stream.published == 2
    forwarder.stop()
    spool.close()
