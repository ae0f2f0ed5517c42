"""The KV cache in pages: who owns which block, which slot holds which position, and what is shared.

A block is `block_size` token slots in every layer. Blocks are taken as a sequence grows and given
back when it ends. A full block of a prompt is found again under a key: the tokens up to its end and
the weights they were computed with. So equal beginnings are computed once, and nothing computed by
one version is ever read by another. Given-back blocks keep their content until they are needed.

Left out: sharing a block that is not full, and moving blocks to another memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from burnish.kernels.model import LoadedModel

Key = tuple[object, ...]  # (the key before it or the weights' mark, tokens)


class BlockPool:
    """Blocks with the number of sequences that use each.

    Free blocks are handed out last-freed first (those are still in the CPU's caches), and those
    that somebody may want to find again only when no others are left, longest unused first.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._empty = list(range(total - 1, -1, -1))
        self._users = [0] * total
        self._found: dict[Key, int] = {}  # key -> block
        self._keys: dict[int, Key] = {}  # block -> key
        self._idle: dict[int, None] = {}  # unused blocks with a key, longest unused first

    @property
    def free(self) -> int:
        return len(self._empty) + len(self._idle)

    def take(self, count: int) -> list[int]:
        if count > self.free:
            raise ValueError(f"{count} blocks wanted, {self.free} free")
        taken = [self._empty.pop() if self._empty else self._forget() for _ in range(count)]
        for block in taken:
            self._users[block] = 1
        return taken

    def share(self, key: Key) -> int | None:
        """One user more for the block under `key`; None if there is none."""
        block = self._found.get(key)
        if block is not None:
            self._idle.pop(block, None)
            self._users[block] += 1
        return block

    def remember(self, block: int, key: Key) -> None:
        """The block is complete: let it be found, unless an equal one can be already."""
        if key not in self._found and block not in self._keys:
            self._found[key] = block
            self._keys[block] = key

    def give_back(self, blocks: Sequence[int]) -> None:
        for block in reversed(blocks):  # the end of a prompt is forgotten before its beginning
            self._users[block] -= 1
            if self._users[block]:
                continue
            if block in self._keys:
                self._idle[block] = None
            else:
                self._empty.append(block)

    def _forget(self) -> int:
        block = next(iter(self._idle))
        del self._idle[block]
        del self._found[self._keys.pop(block)]
        return block


class PagedKV:
    """The pages of all layers, and per running row the slot of every position."""

    def __init__(
        self, model: LoadedModel, rows: int, max_len: int, block_size: int, num_blocks: int
    ) -> None:
        if block_size % 16:
            raise ValueError(f"block_size must be a multiple of 16, not {block_size}")
        self.block_size = block_size
        self._shares = not model.recurrent
        self.max_len = min(max_len, num_blocks * block_size)
        self.pool = BlockPool(num_blocks)
        self.pages = model.new_pages(num_blocks * block_size)
        # Expanded block tables: [rows, positions] -> slot. One gather finds a whole step's pages.
        self.slots = np.zeros((rows, self.blocks_for(self.max_len) * block_size), dtype=np.int64)

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_size)

    def keys(self, tokens: Sequence[int], mark: object) -> list[Key]:
        """Keys of all full blocks of `tokens` under weights `mark`; none where blocks are not all
        that a model remembers."""
        if not self._shares:
            return []
        keys: list[Key] = []
        before: object = mark
        for end in range(self.block_size, len(tokens) + 1, self.block_size):
            before = (before, tuple(tokens[end - self.block_size : end]))
            keys.append(before)
        return keys

    def place(self, row: int, blocks: Sequence[int], start: int = 0) -> None:
        """Write blocks into the row's table, from its block `start` on."""
        begins = np.array(blocks, dtype=np.int64)[:, None] * self.block_size
        flat = (begins + np.arange(self.block_size)).ravel()
        at = start * self.block_size
        self.slots[row, at : at + flat.size] = flat
