"""Which decode steps are replayed, from which recording, and what the empty rows touch."""

from typing import Any

import numpy as np
import pytest
import torch
from burnish.kernels.attention import KVPages
from burnish.kernels.cuda.graphs import MAX_ROWS, DecodeGraphs, may_replay
from burnish.kernels.forward_batch import ForwardBatch

REACH = 64
SCRATCH = 12
TABLE = (np.arange(12).reshape(3, 4)[..., None] * 16 + np.arange(16)).reshape(3, REACH)


def cache() -> tuple[KVPages]:
    empty = torch.zeros((SCRATCH + 1) * 16, 1, 1)
    return (KVPages(empty, empty),)


def decode(rows: int, **change: Any) -> ForwardBatch:
    some = np.arange(rows)
    parts = {
        "tokens": some + 50, "rows": some % 3, "starts": some + 20, "counts": np.ones_like(some),
        "slots": some, "keep": some,
    }  # fmt: skip
    return ForwardBatch(**{**parts, **change})


class Spy:
    """Stands in for the model: returns its own tokens, and remembers how it was recorded."""

    def __init__(self) -> None:
        self.seen: list[tuple[torch.Tensor, ...]] = []
        self.sizes: list[int] = []

    def __call__(self, tokens, positions, slots, table, pages) -> torch.Tensor:
        self.seen.append((tokens.clone(), positions.clone(), slots, table.clone()))
        return tokens[:, None].float()

    def record(self, run):
        self.sizes.append(len(run()))
        return run


@pytest.fixture
def spy() -> Spy:
    return Spy()


@pytest.fixture
def graphs(spy: Spy) -> DecodeGraphs:
    return DecodeGraphs(spy, spy.record, torch.device("cpu"))


def test_a_step_takes_the_smallest_recording_it_fits(graphs: DecodeGraphs, spy: Spy) -> None:
    pages = cache()
    for rows in (3, 2, 1, 3, 4, 2):
        logits = graphs(decode(rows), TABLE, pages, None)
        assert logits[:, 0].tolist() == (np.arange(rows) + 50).tolist()
    assert spy.sizes == [4, 2, 1]


def test_empty_rows_stay_on_the_page_that_is_nobodys(graphs: DecodeGraphs, spy: Spy) -> None:
    pages = cache()
    graphs(decode(4), TABLE, pages, 0)
    graphs(decode(3), TABLE, pages, 0)
    _, positions, slots, table = spy.seen[-1]
    assert positions.tolist() == [20, 21, 22, 0]
    assert slots.tolist() == [0, 1, 2, 0]
    assert table[:3, :2].tolist() == (TABLE[:, :32:16] // 16).tolist()
    assert table[3, 0] == SCRATCH
    _, positions, _, table = spy.seen[0]  # while it was recorded
    assert positions.tolist() == [0] * 4
    assert table[:, 0].tolist() == [SCRATCH] * 4


def test_recordings_end_with_their_cache_and_their_arrangement_of_adapters(
    graphs: DecodeGraphs, spy: Spy
) -> None:
    first, second = cache(), cache()
    for layout in (None, 1, 1, 2, None):  # base, adapters, more adapters than fitted, base
        graphs(decode(2), TABLE, first, layout)
    assert len(spy.sizes) == 3
    assert [slots is None for _, _, slots, _ in spy.seen[-2:]] == [False, True]
    graphs(decode(2), TABLE, first, 1)  # forgotten when 2 came
    assert len(spy.sizes) == 4
    graphs(decode(2), TABLE, second, None)
    graphs(decode(2), TABLE, first, None)
    assert len(spy.sizes) == 6


@pytest.mark.parametrize(
    ("batch", "fits"),
    [
        (decode(1), True),
        (decode(MAX_ROWS), True),
        (decode(MAX_ROWS + 1), False),
        (decode(2, tokens=np.arange(3), counts=np.array([1, 2])), False),  # a piece of a prompt
        (decode(2, keep=np.array([1])), False),
    ],
)
def test_only_plain_decode_steps_are_replayed(batch: ForwardBatch, fits: bool) -> None:
    assert may_replay(batch) is fits
