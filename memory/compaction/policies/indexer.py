"""`indexer`: steps by the similarity of the served model's embeddings to the query.

Scored as DeepSeek's lightning indexer scores tokens (DeepSeek-V3.2, 2025), one level up: keys are
steps, pooled into one vector each, and a query's heads are its clauses. A step's score is
sum_j w_j ReLU(q_j . k). Hidden states share a large common part that says nothing about content;
the projection takes out their mean and main directions ("all but the top", arXiv:1702.01417),
worked out from the session's own steps. Works with any embedder.
"""

import asyncio
import re
from collections.abc import Sequence

import numpy as np
from burnish.memory.compaction.policies.base import CompactionTask, Decision
from burnish.memory.compaction.policies.bm25 import fill
from burnish.memory.search.embedding import Embedder

MAX_HEADS = 8
COMMON_PART = 100  # dimensions for each main direction taken out
SAMPLE = 2000  # steps the projection is worked out from

_CLAUSE = re.compile(r"[.!?;:,\n]+")


class IndexerPolicy:
    """`tail` is the share of the budget that the newest units get first."""

    name = "indexer"

    def __init__(self, embedder: Embedder, tail: float = 0.25) -> None:
        self.embedder = embedder
        self.tail = tail

    async def decide(self, task: CompactionTask) -> Sequence[Decision]:
        if not task.candidates:
            return []
        texts = heads(task.query)
        queries = await self.embedder.embed(texts)
        keys = await task.embedded(self.embedder)
        weights = np.full(len(texts), 1.0 / len(texts), np.float32)
        weights[0] = 1.0
        scores = await asyncio.to_thread(score, queries, weights, keys)
        return fill(task, [float(s) for s in scores], self.tail, "indexer")


def heads(query: str) -> list[str]:
    """The query, then its clauses where it has more than one."""
    clauses = [clause.strip() for clause in _CLAUSE.split(query)]
    clauses = list(dict.fromkeys(clause for clause in clauses if clause))
    return [query, *(clauses[: MAX_HEADS - 1] if len(clauses) > 1 else ())]


def score(queries: np.ndarray, weights: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """[n] from queries [h, d], weights [h] and keys [n, d]: sum_j w_j ReLU(q_j . k), projected."""
    mean, common = _common(keys)
    projected = (_without(part, mean, common) for part in (queries, keys))
    q, k = projected
    return np.maximum(k @ q.T, 0.0) @ weights


def _common(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] and main directions [r, d] of the keys; of few keys, none is known."""
    sample = keys[:: max(1, len(keys) // SAMPLE)]
    mean = sample.mean(0)
    directions = min(keys.shape[1] // COMMON_PART, len(sample) // 10)
    if directions == 0:
        return mean if len(sample) >= 4 else np.zeros_like(mean), np.zeros((0, keys.shape[1]))
    _, vectors = np.linalg.eigh(np.cov(sample, rowvar=False))
    return mean, vectors[:, -directions:].T


def _without(rows: np.ndarray, mean: np.ndarray, common: np.ndarray) -> np.ndarray:
    """The rows without the common part, of length 1."""
    rest = rows - mean
    rest = rest - (rest @ common.T) @ common
    return rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-9)
