"""When deltas reach those that read them."""

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import pytest
from burnish.serving.engine import streams
from burnish.serving.engine.streams import Deliveries, DeltaStream
from burnish.serving.engine.types import Delta

STEP_S = 0.01


@pytest.mark.parametrize(("count", "longest_s"), [(1, 0.05), (16, 0.05), (24, 0.075), (99, 0.1)])
async def test_nobody_waits_longer_than_a_burst_or_two_where_there_are_many(
    count: int, longest_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(streams, "time", SimpleNamespace(monotonic=lambda: now))
    deliveries, readers = Deliveries(), [DeltaStream() for _ in range(count)]
    arrived: list[float] = []
    for _ in range(100):
        now += STEP_S
        for reader in readers:
            deliveries.add(reader, Delta("x", (1,)))
        deliveries.deliver(now - STEP_S)
        await asyncio.sleep(0)  # what was delivered is put
        if readers[0]._delivered:
            arrived.append(now)
            await asyncio.gather(*(reader.get() for reader in readers))
    waits = [later - earlier for earlier, later in pairwise(arrived)]
    assert max(waits) <= longest_s + 1e-9
    assert max(waits) > longest_s - 2 * STEP_S
