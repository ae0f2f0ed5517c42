"""What a time within a load tells, and what pairs of loads tell of each other."""

from __future__ import annotations

import asyncio
import time
from itertools import repeat

import numpy as np
import pytest
from burnish.ops.bench.lib.closed_loop import Prompt, Window, compared, measure
from burnish.ops.bench.lib.sse import Streamed
from hypothesis import given
from hypothesis import strategies as st

MOMENTS = st.lists(st.floats(0, 10), min_size=1).map(sorted)


@given(MOMENTS, st.integers(0, 1000), st.floats(0, 10))
def test_each_token_is_in_one_window(arrivals: list[float], tokens: int, middle: float) -> None:
    seen = Streamed(0.0, arrivals, tokens)
    halves = seen.tokens_between(0, middle) + seen.tokens_between(middle, 11)
    assert halves == pytest.approx(tokens)


def window(tokens_per_s: float) -> Window:
    arrivals = np.linspace(0.0, 1.0, 100, endpoint=False).tolist()
    return Window(0.0, 1.0, [Streamed(0.0, arrivals, int(tokens_per_s))], {"engine": 0.5})


def test_drift_that_both_loads_of_a_pair_share_cancels() -> None:
    speeds = (1000, 700, 1300)
    told = compared([(window(speed), window(0.9 * speed)) for speed in speeds])
    assert told["share_of_engine"] == pytest.approx(0.9)
    assert told["share_of_engine_quartiles"] == pytest.approx([0.9, 0.9])
    assert told["cpu_us_per_token"]["engine"] == pytest.approx(1.5e6 / 2700, abs=0.1)


async def test_a_window_leaves_out_how_a_load_begins_and_ends() -> None:
    async def ask(prompt: Prompt, tokens: int, seed: int) -> Streamed:
        seen = Streamed(time.perf_counter(), tokens=tokens)
        await asyncio.sleep(0.05)
        seen.arrivals.append(time.perf_counter())
        return seen

    asked = repeat(Prompt("", ()))
    seen = await measure([ask] * 2, 0.3, asked, lambda: {"engine": time.process_time()}, seed=0)
    assert seen.ended - seen.began == pytest.approx(0.3, abs=0.2)
    assert 0 < len(seen.begun) < len(seen.seen)
    assert 0 < seen.tokens < sum(answer.tokens for answer in seen.seen)
