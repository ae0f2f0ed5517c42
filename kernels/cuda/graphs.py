"""CUDA graphs of decode steps: all launches of a step are recorded once and replayed as one.

A graph is recorded for a number of rows (1, 2, 4, ...), over static buffers. A step runs in the
smallest graph it fits; its padding rows read and write a scratch page that no sequence owns. Only
steps of one token per row, all of them kept, are replayed.

Tests replace the recorder by one that calls the function again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
import torch
from burnish.kernels.attention import KVPages
from burnish.kernels.cuda.attention import PAGE
from burnish.kernels.forward_batch import ForwardBatch
from torch import Tensor

MAX_ROWS = 256  # larger steps keep a GPU busy without graphs

Replay = Callable[[], Tensor]
Recorder = Callable[[Callable[[], Tensor]], Replay]
# (tokens [n], positions [n], slots [n] or None: the base, page table [n, reach / PAGE], cache)
Decode = Callable[[Tensor, Tensor, "Tensor | None", Tensor, tuple[KVPages, ...]], Tensor]


class CannotRecord(RuntimeError):
    """The model does something that a CUDA graph cannot record."""


def may_replay(batch: ForwardBatch) -> bool:
    """Whether a step has one token for each row and keeps all of them."""
    rows = len(batch.rows)
    return rows <= MAX_ROWS and len(batch.tokens) == rows == len(batch.keep)


class DecodeGraphs:
    """Graphs over one cache, by number of rows and arrangement of adapters."""

    def __init__(self, decode: Decode, record: Recorder, device: torch.device) -> None:
        self._decode, self._record, self._device = decode, record, device
        self._cache: tuple[KVPages, ...] | None = None
        self._reach = 0
        self._graphs: dict[tuple[int, Hashable], tuple[np.ndarray, Tensor, Replay]] = {}

    def __call__(
        self, batch: ForwardBatch, table: np.ndarray, pages: tuple[KVPages, ...], layout: Hashable
    ) -> Tensor:
        """Logits [rows, V] of a step that `may_replay`. `layout` identifies the adapters'
        arrangement, None: the base alone. Valid until the next step."""
        reach = table.shape[1] // PAGE
        if pages is not self._cache or reach != self._reach:
            self._graphs.clear()
            self._cache, self._reach = pages, reach
        rows = len(batch.rows)
        size = 1 << (rows - 1).bit_length()
        if (size, layout) not in self._graphs:
            self._drop_outdated(layout)
            self._graphs[size, layout] = self._record_graph(size, layout is not None)
        staged, buffer, replay = self._graphs[size, layout]
        tokens, positions, slots = staged[: 3 * size].reshape(3, size)
        tokens[:rows], positions[:rows], slots[:rows] = batch.tokens, batch.starts, batch.slots
        positions[rows:] = slots[rows:] = 0
        where = staged[3 * size :].reshape(size, reach)
        used = int(batch.starts.max()) // PAGE + 1
        where[:rows, :used] = table[batch.rows, : used * PAGE : PAGE] // PAGE
        where[rows:, 0] = scratch_page(pages)
        buffer.copy_(torch.from_numpy(staged))
        return replay()[:rows]

    def _record_graph(self, size: int, adapted: bool) -> tuple[np.ndarray, Tensor, Replay]:
        staged = np.zeros(size * (3 + self._reach), np.int32)
        cache = self._cache
        assert cache is not None
        staged[3 * size :] = scratch_page(cache)  # recording may run the step
        buffer = torch.from_numpy(staged).to(self._device, copy=True)
        tokens, positions, slots = buffer[: 3 * size].view(3, size)
        where = buffer[3 * size :].view(size, self._reach)
        chosen = slots if adapted else None
        replay = self._record(lambda: self._decode(tokens, positions, chosen, where, cache))
        return staged, buffer, replay

    def _drop_outdated(self, layout: Hashable) -> None:
        if layout is not None:
            old = [key for key in self._graphs if key[1] not in (None, layout)]
            for key in old:
                del self._graphs[key]


def scratch_page(pages: tuple[KVPages, ...]) -> int:
    """The last page of a cache: one more than was asked for."""
    return pages[0].key.shape[0] // PAGE - 1


class CudaGraphs:
    """Records on the current device. Graphs run one at a time, so all share one memory pool."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Tensor]) -> Replay:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()  # warm-up: compiles kernels, allocates workspaces
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            # Another thread may load adapters meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                out = run()
        except RuntimeError as error:
            raise CannotRecord(str(error)) from error

        def replay() -> Tensor:
            graph.replay()
            return out

        return replay
