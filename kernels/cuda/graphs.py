"""Decode steps recorded once and replayed: the launches of a whole model for the price of one.

A recording is made for a number of rows (1, 2, 4, ...), over buffers that stay in place. A step is
written into the smallest recording it fits; the rows beyond it read and write a scratch page that
belongs to nobody. What is not one token per row, all of them kept, is not replayed.

The recorder is CUDA's, or in tests one that calls the function again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
import torch
from burnish.kernels.attention import KVPages
from burnish.kernels.cuda.attention import PAGE
from burnish.kernels.forward_batch import ForwardBatch
from torch import Tensor

MOST = 256  # rows; larger steps keep a GPU busy without help

Replay = Callable[[], Tensor]
Recorder = Callable[[Callable[[], Tensor]], Replay]
# (tokens [n], positions [n], slots [n] or None: the base, page table [n, reach / PAGE], cache)
Decode = Callable[[Tensor, Tensor, "Tensor | None", Tensor, tuple[KVPages, ...]], Tensor]


class CannotRecord(RuntimeError):
    """The model does something between its layers that CUDA cannot record."""


def may_replay(feed: ForwardBatch) -> bool:
    """Whether a step is nothing but one token for each row, with the logits of all."""
    rows = len(feed.rows)
    return rows <= MOST and len(feed.tokens) == rows == len(feed.keep)


class DecodeGraphs:
    """Recordings over one cache, by number of rows and whether adapters are in use."""

    def __init__(self, decode: Decode, record: Recorder, device: torch.device) -> None:
        self._decode, self._record, self._device = decode, record, device
        self._cache: tuple[KVPages, ...] | None = None
        self._reach = 0
        self._made: dict[tuple[int, Hashable], tuple[np.ndarray, Tensor, Replay]] = {}

    def __call__(
        self, feed: ForwardBatch, table: np.ndarray, pages: tuple[KVPages, ...], layout: Hashable
    ) -> Tensor:
        """Logits [rows, V] of a step that `may_replay`. `layout` names the adapters' arrangement,
        None: the base alone. Valid until the next step."""
        reach = table.shape[1] // PAGE
        if pages is not self._cache or reach != self._reach:
            self._made.clear()
            self._cache, self._reach = pages, reach
        rows = len(feed.rows)
        size = 1 << (rows - 1).bit_length()
        if (size, layout) not in self._made:
            self._forget_older(layout)
            self._made[size, layout] = self._make(size, layout is not None)
        staged, buffer, replay = self._made[size, layout]
        tokens, positions, slots = staged[: 3 * size].reshape(3, size)
        tokens[:rows], positions[:rows], slots[:rows] = feed.tokens, feed.starts, feed.slots
        positions[rows:] = slots[rows:] = 0
        where = staged[3 * size :].reshape(size, reach)
        used = int(feed.starts.max()) // PAGE + 1
        where[:rows, :used] = table[feed.rows, : used * PAGE : PAGE] // PAGE
        where[rows:, 0] = scratch_page(pages)
        buffer.copy_(torch.from_numpy(staged))
        return replay()[:rows]

    def _make(self, size: int, adapted: bool) -> tuple[np.ndarray, Tensor, Replay]:
        staged = np.zeros(size * (3 + self._reach), np.int32)
        cache = self._cache
        assert cache is not None
        staged[3 * size :] = scratch_page(cache)  # a recording may run while it is made
        buffer = torch.from_numpy(staged).to(self._device, copy=True)
        tokens, positions, slots = buffer[: 3 * size].view(3, size)
        where = buffer[3 * size :].view(size, self._reach)
        chosen = slots if adapted else None
        replay = self._record(lambda: self._decode(tokens, positions, chosen, where, cache))
        return staged, buffer, replay

    def _forget_older(self, layout: Hashable) -> None:
        if layout is not None:
            old = [key for key in self._made if key[1] not in (None, layout)]
            for key in old:
                del self._made[key]


def scratch_page(pages: tuple[KVPages, ...]) -> int:
    """The last page of a cache made with one more than was asked for."""
    return pages[0].key.shape[0] // PAGE - 1


class CudaGraphs:
    """Records on the current device; all recordings share one memory pool, for one runs at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Tensor]) -> Replay:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            run()  # kernels are compiled, libraries take their workspaces
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            # Adapters are loaded by another thread meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                out = run()
        except RuntimeError as error:
            raise CannotRecord(str(error)) from error

        def replay() -> Tensor:
            graph.replay()
            return out

        return replay
