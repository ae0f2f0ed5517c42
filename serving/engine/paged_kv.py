"""The KV cache in pages: who owns which block, and which slot holds which position.

A block is `block_size` token slots in every layer. A sequence gets all the blocks its worst case
needs when it is admitted and gives them back when it ends, so nobody is ever thrown out half-way.
Left out for now: sharing blocks between sequences (a prefix cache), and growing on demand.
"""

from __future__ import annotations

import numpy as np
from burnish.kernels.model import LoadedModel


class BlockPool:
    """Free blocks, handed out last-freed first: those are the ones still in the CPU's caches."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = list(range(total - 1, -1, -1))

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int]:
        if count > len(self._free):
            raise ValueError(f"{count} blocks wanted, {len(self._free)} free")
        return [self._free.pop() for _ in range(count)]

    def give_back(self, blocks: list[int]) -> None:
        self._free.extend(blocks)


class PagedKV:
    """The pages of all layers, and per running row the slot of every position."""

    def __init__(
        self, model: LoadedModel, rows: int, max_len: int, block_size: int, num_blocks: int
    ) -> None:
        if block_size % 16:
            raise ValueError(f"block_size must be a multiple of 16, not {block_size}")
        self.block_size = block_size
        self.max_len = min(max_len, num_blocks * block_size)
        self.pool = BlockPool(num_blocks)
        self.pages = model.new_pages(num_blocks * block_size)
        # Expanded block tables: [rows, positions] -> slot. One gather finds a whole step's pages.
        self.slots = np.zeros((rows, self.blocks_for(self.max_len) * block_size), dtype=np.int64)

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_size)

    def assign(self, row: int, tokens: int) -> list[int]:
        """Take blocks for `tokens` positions and write them into the row's table."""
        blocks = self.pool.take(self.blocks_for(tokens))
        starts = np.array(blocks, dtype=np.int64)[:, None] * self.block_size
        flat = (starts + np.arange(self.block_size)).ravel()
        self.slots[row, : flat.size] = flat
        return blocks
