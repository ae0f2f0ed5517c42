"""How relevant each unit is to a query: word matches, and what these lead to over shared rare terms.

Multi-hop questions need the second part: from a person to the service that person looks after, and
on to the service's port. Arithmetic over the flat arrays of `PassageIndex`; knows no meanings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from burnish.memory.compaction.passages import PassageIndex, hashed_terms
from burnish.memory.search.bm25 import sum_term_scores
from burnish.memory.search.embedding import HashingEmbedder

HOPS = 4
DECAY = 0.7  # of relevance, per hop
SOURCES = 48  # passages a hop spreads from

embed = lru_cache(maxsize=16384)(HashingEmbedder(128).vector)


@dataclass(frozen=True)
class QueryMatch:
    """A log against a query, before relevance spreads."""

    log: PassageIndex
    terms: np.ndarray  # indexes of the query's terms in the log's vocabulary
    bm25: np.ndarray  # per unit, 1 for the best
    coverage: np.ndarray  # per passage: share of the query's idf it names, 1 for the best
    peak: float  # that share itself, of the best
    vector: np.ndarray  # the query, embedded

    @classmethod
    def of(cls, log: PassageIndex, query: str) -> QueryMatch:
        known = log.number[hashed_terms(query)]
        terms = known[known >= 0]
        weight = np.zeros(len(log.known), np.float32)
        weight[terms] = log.idf[terms]
        covered = log.sum(weight[log.terms]) / (float(weight.sum()) or 1.0)
        peak = float(covered.max(initial=0.0)) or 1.0
        return cls(log, terms, _unit_bm25(log, terms), covered / peak, peak, embed(query))


@dataclass(frozen=True)
class Relevance:
    """What the query reaches."""

    hops: list[np.ndarray]  # per passage: how strongly each hop leads there
    passages: np.ndarray  # per passage: covered, or led to
    units: np.ndarray  # per unit: its best passage


def spread(match: QueryMatch, active: np.ndarray) -> Relevance:
    """Spread relevance from passages `active` [passages] over terms that the query does not name.

    A term as common as a function word leads nowhere.
    """
    log, coverage = match.log, match.coverage
    rarity = np.minimum(log.idf / (0.7 * np.log1p(log.n)), 1.0) ** 1.5
    rarity[match.terms] = 0.0
    rarity[log.df < 2] = 0.0
    hops, reached = [], np.maximum(coverage, active)
    for hop in range(HOPS):
        strength = np.zeros(len(log.known))
        for p in np.argsort(-active, kind="stable")[:SOURCES]:
            own = log.terms[log.starts[p] : log.starts[p + 1]]
            np.maximum.at(strength, own, active[p] * rarity[own])
        led = log.max(strength[log.terms])
        hops.append(led)
        active = np.maximum(active, led * (0.4 + 0.6 * np.minimum(2 * coverage, 1)) * DECAY)
        reached = np.maximum(reached, np.minimum(coverage + led * DECAY**hop, 1.5))
    return Relevance(hops, reached, log.best(reached))


def _unit_bm25(log: PassageIndex, terms: np.ndarray) -> np.ndarray:
    """BM25 per unit, 1 for the best; a term occurs once in each passage that holds it."""
    units = len(log.sizes)
    lengths = np.bincount(log.unit[log.passage], minlength=units)
    holding = (log.unit[log.passage[log.terms == term]] for term in terms)
    scores = sum_term_scores((np.bincount(u, minlength=units) for u in holding), lengths)
    return scores / (scores.max(initial=0.0) or 1.0)
