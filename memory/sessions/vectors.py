"""A cache of the embeddings of a session's units, kept beside the log.

It may be lost at any time. A vector reveals what its step says, so it is stored only while the step
is, and erased with it.
"""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from burnish.memory.search.embedding import Embedder
from burnish.memory.sessions.keys import SessionKeys
from burnish.memory.sessions.scripts import Scripts
from burnish.memory.sessions.units import Unit

BATCH = 64


class VectorCache:
    """Of one session."""

    def __init__(self, redis: Any, scripts: Scripts, keys: SessionKeys) -> None:
        self._redis = redis
        self._scripts = scripts
        self._keys = keys

    async def get(self, units: Sequence[Unit], embedder: Embedder) -> np.ndarray:
        """Embeddings [n, d] of the units, in order. A unit that gained a result is embedded anew."""
        if not units:
            return await embedder.embed([])
        rows = await self._redis.hmget(self._keys.vectors, [str(unit.last) for unit in units])
        prefix = f"{embedder.name}|"
        found = {
            unit.last: _unpack(row[len(prefix) :])
            for unit, row in zip(units, rows, strict=True)
            if row and row.startswith(prefix)
        }
        missing = [unit for unit in units if unit.last not in found]
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            fresh = await embedder.embed([unit.text for unit in batch])
            # Rounded, so that a vector is the same whether it comes from here or from the cache.
            halves = fresh.astype(np.float16)
            args = [x for u, row in zip(batch, halves, strict=True) for x in (u.last, _pack(row))]
            await self._scripts.keep_vectors(keys=self._keys.fixed, args=[prefix, *args])
            found |= {u.last: row for u, row in zip(batch, halves, strict=True)}
        return np.stack([found[unit.last] for unit in units]).astype(np.float32)


def _pack(vector: np.ndarray) -> str:
    return base64.b64encode(vector.tobytes()).decode()


def _unpack(packed: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed), np.float16)
