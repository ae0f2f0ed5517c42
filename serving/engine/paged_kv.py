"""The paged KV cache: which sequence uses which block, which slot holds which position, prefix sharing.

A block is `block_size` token slots in every layer. Blocks are allocated as a sequence grows and
released when it ends. A full block of a prompt is cached under a key: a digest of the tokens up to its
end, of the weights they were computed with, and of the tenant. So equal prefixes of a tenant are
computed once, nothing computed by one version is ever read by another, and no tenant can tell by the
time it takes what others have asked. Released blocks keep their content until they are evicted.

Left out: sharing a block that is not full, and moving blocks to another memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from burnish.kernels.model import LoadedModel

Key = bytes  # digest of the previous block's key, or of weights and tenant, and the block's tokens


class BlockPool:
    """Blocks with their reference counts.

    Free blocks are allocated last-freed first (those are still in the CPU's caches), and cached ones
    only when no others are left, least recently used first.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._unused = list(range(total - 1, -1, -1))
        self._ref_counts = [0] * total
        self._cached: dict[Key, int] = {}  # key -> block
        self._keys: dict[int, Key] = {}  # block -> key
        self._evictable: dict[
            int, None
        ] = {}  # unreferenced blocks with a key, least recently used first

    @property
    def num_free(self) -> int:
        return len(self._unused) + len(self._evictable)

    def allocate(self, count: int) -> list[int]:
        if count > self.num_free:
            raise ValueError(f"{count} blocks wanted, {self.num_free} free")
        taken = [self._unused.pop() if self._unused else self._evict() for _ in range(count)]
        for block in taken:
            self._ref_counts[block] = 1
        return taken

    def acquire_cached(self, key: Key) -> int | None:
        """The block cached under `key`, with one more reference; None if there is none."""
        block = self._cached.get(key)
        if block is not None:
            self._evictable.pop(block, None)
            self._ref_counts[block] += 1
        return block

    def cache(self, block: int, key: Key) -> None:
        """Cache a full block under `key`, unless an equal one is cached already."""
        if key not in self._cached and block not in self._keys:
            self._cached[key] = block
            self._keys[block] = key

    def release(self, blocks: Sequence[int]) -> None:
        for block in reversed(blocks):  # the end of a prompt is evicted before its beginning
            self._ref_counts[block] -= 1
            if self._ref_counts[block]:
                continue
            if block in self._keys:
                self._evictable[block] = None
            else:
                self._unused.append(block)

    def _evict(self) -> int:
        block = next(iter(self._evictable))
        del self._evictable[block]
        del self._cached[self._keys.pop(block)]
        return block


class PagedKV:
    """The pages of all layers, and per running row the slot of every position."""

    def __init__(
        self, model: LoadedModel, rows: int, max_len: int, block_size: int, num_blocks: int
    ) -> None:
        if block_size % 16:
            raise ValueError(f"block_size must be a multiple of 16, not {block_size}")
        self.block_size = block_size
        self._prefix_caching = not model.recurrent
        self.max_len = min(max_len, num_blocks * block_size)
        self.pool = BlockPool(num_blocks)
        self.pages = model.new_pages(num_blocks * block_size)
        # Expanded block tables: [rows, positions] -> slot. One gather finds a whole step's pages.
        self.slots = np.zeros((rows, self.blocks_for(self.max_len) * block_size), dtype=np.int64)

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_size)

    def keys(
        self, tokens: Sequence[int], weights_id: int, tenant: str = "", mtp: bool = False
    ) -> list[Key]:
        """Keys of all full blocks of a tenant's `tokens` under these weights, and of those that `mtp` has
        passed over too; none for a recurrent model, whose state is more than its blocks."""
        if not self._prefix_caching:
            return []
        flat = np.array(tokens, dtype=np.int64)
        key = blake2b(repr((weights_id, tenant, mtp)).encode()).digest()
        keys: list[Key] = []
        for end in range(self.block_size, len(flat) + 1, self.block_size):
            key = blake2b(key + flat[end - self.block_size : end].tobytes()).digest()
            keys.append(key)
        return keys

    def map_blocks(self, row: int, blocks: Sequence[int], start: int = 0) -> None:
        """Write blocks into the row's table, from its block `start` on."""
        begins = np.array(blocks, dtype=np.int64)[:, None] * self.block_size
        flat = (begins + np.arange(self.block_size)).ravel()
        at = start * self.block_size
        self.slots[row, at : at + flat.size] = flat
