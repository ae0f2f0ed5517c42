"""Whole sequences as prefill steps, a few sequences at a time, each step with a page table of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from burnish.kernels.cpu.target import WIDTH
from burnish.kernels.forward_batch import ForwardBatch

READ_TOKENS = 2048  # about so many per step


def whole_sequences(
    sequences: Sequence[Sequence[int]], starts: Sequence[int], slot: int = 0
) -> Iterator[tuple[ForwardBatch, np.ndarray]]:
    """Steps over all sequences in order, each with its page table. The tokens kept are those that
    predict tokens `start`, ... of each sequence; none without `starts`."""
    for chosen in _by_size([len(s) for s in sequences], READ_TOKENS):
        counts = np.array([len(sequences[i]) for i in chosen], np.int64)
        reach = -(-int(counts.max()) // WIDTH) * WIDTH
        table = np.arange(len(chosen) * reach, dtype=np.int64).reshape(len(chosen), reach)
        ends = counts.cumsum()
        keep = [np.empty(0, np.int64)]
        if starts:
            keep += [
                np.arange(end - count + starts[i] - 1, end - 1)
                for i, count, end in zip(chosen, counts, ends, strict=True)
            ]
        batch = ForwardBatch(
            tokens=np.concatenate([np.array(sequences[i], np.int64) for i in chosen]),
            rows=np.arange(len(chosen)),
            starts=np.zeros(len(chosen), np.int64),
            counts=counts,
            slots=np.full(len(chosen), slot, np.int64),
            keep=np.concatenate(keep),
        )
        yield batch, table


def _by_size(sizes: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in order, in runs whose sizes add up to about `budget`."""
    run: list[int] = []
    for index, size in enumerate(sizes):
        if run and sum(sizes[i] for i in run) + size > budget:
            yield run
            run = []
        run.append(index)
    if run:
        yield run
