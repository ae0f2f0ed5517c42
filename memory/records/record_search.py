"""Search over records: one index per tenant in this process, BM25 and embeddings fused.

The indexes of the tenants searched most recently are kept. Left out: the index (record_index.py)
and reading the records that rank best (records.py).
"""

import asyncio
from collections import OrderedDict
from typing import Any

import numpy as np
from burnish.memory.records.record import RecordFilter
from burnish.memory.records.record_index import Fetch, RecordIndex, encode
from burnish.memory.search.embedding import Embedder
from burnish.memory.search.fusion import fuse
from burnish.memory.sessions.keys import TenantKeys

MAX_INDEXES = 32  # tenants whose index this process keeps


class RecordSearch:
    """`floor` is the cosine similarity up to which two vectors have nothing in common."""

    def __init__(self, redis: Any, embedder: Embedder, floor: float) -> None:
        self._redis = redis
        self._embedder = embedder
        self._floor = floor
        self._indexes: OrderedDict[str, tuple[RecordIndex, asyncio.Lock]] = OrderedDict()

    async def embed(self, text: str) -> np.ndarray:
        """[d] float32, of length 1 or zeros."""
        [vector] = await self._embedder.embed([text])
        return vector

    async def encoded(self, text: str) -> str:
        """The text's embedding as it is stored with a record."""
        return encode(self._embedder.name, await self.embed(text))

    async def index(self, tenant: str, fetch: Fetch) -> RecordIndex:
        """The tenant's index, in step with Redis; `fetch` reads rows by their numbers."""
        if tenant not in self._indexes:
            self._indexes[tenant] = RecordIndex(self._embedder.name), asyncio.Lock()
        self._indexes.move_to_end(tenant)
        while len(self._indexes) > MAX_INDEXES:
            self._indexes.popitem(last=False)
        index, lock = self._indexes[tenant]
        async with lock:
            await index.catch_up(self._redis, TenantKeys(tenant), fetch)
        return index

    def rank(
        self,
        index: RecordIndex,
        query: str,
        vector: np.ndarray,
        where: RecordFilter,
        limit: int,
        now: float,
    ) -> list[tuple[int, float]]:
        """The numbers of the `limit` best records that the filter admits, with fused scores."""
        depth = max(4 * limit, 40)
        admitted = index.admitted(where, now)
        nearest = index.nearest(vector, admitted, depth, above=self._floor)
        return fuse([index.matching(query, admitted, depth), nearest], limit)
