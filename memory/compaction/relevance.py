"""How relevant each unit is to a query: word matches, and what these lead to over shared rare terms.

Multi-hop questions need the second part: from a person to the service that person looks after, and
on to the service's port. Arithmetic over the columns of `PassageIndex` that touches only the passages
holding a term that matters; knows no meanings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from burnish.memory.compaction.candidates import Candidates
from burnish.memory.compaction.passages import PassageIndex, hashed_terms

HOPS = 4
DECAY = 0.7  # of relevance, per hop
SOURCES = 48  # passages a hop spreads from
COMMON = 512  # passages: a term that more of them hold leads nowhere
FAR = 128  # ranks and distances beyond say nothing more: logs grow past any trained on
AROUND = 3  # units on each side that speak of the same
FAINT = 0.02  # activity below which a passage is no source, and a term leads nowhere


@dataclass(frozen=True)
class QueryMatch:
    """A log against a query, before relevance spreads. Rows are those of the candidates' index."""

    candidates: Candidates
    log: PassageIndex
    alive: np.ndarray  # bool [passages]: of a candidate
    terms: np.ndarray  # the query's terms, as the log numbers them
    weights: np.ndarray  # their idf
    bm25: np.ndarray  # [candidates], 1 for the best
    coverage: np.ndarray  # [passages]: share of the query's idf it names, 1 for the best
    peak: float  # that share itself, of the best

    @classmethod
    def of(cls, candidates: Candidates, query: str) -> QueryMatch:
        log = candidates.table.passages()
        rows = np.zeros(len(log), bool)
        rows[candidates.rows] = True
        alive = rows[log.unit]
        terms = log.numbers(hashed_terms(query))
        weights = log.idf(terms)
        covered = np.zeros(log.n)
        for term, weight in zip(terms.tolist(), weights, strict=True):
            covered[log.holding(term)] += weight
        covered *= alive / (float(weights.sum()) or 1.0)
        peak = float(covered.max(initial=0.0)) or 1.0
        scores = candidates.bm25(query).astype(float)
        scores /= scores.max(initial=0.0) or 1.0
        return cls(candidates, log, alive, terms, weights, scores, covered / peak, peak)

    def best(self, values: np.ndarray) -> np.ndarray:
        """[passages] -> [candidates], the largest of each."""
        return self.log.best(values)[self.candidates.rows]

    @cached_property
    def named(self) -> np.ndarray:
        """bool [terms of the log]: whether the query names it."""
        named = np.zeros(self.log.n_terms, bool)
        named[self.terms] = True
        return named

    @cached_property
    def bm25_rank(self) -> np.ndarray:
        """[candidates]"""
        return ranks(self.bm25)

    @cached_property
    def around(self) -> np.ndarray:
        """[candidates] how much what stands near a unit matches, the nearer the more; 1 for the best."""
        total = sum(
            (shifted(self.bm25, by) + shifted(self.bm25, -by)) / (1 + by)
            for by in range(1, AROUND + 1)
        )
        return np.asarray(total) / (np.max(total, initial=0.0) or 1.0)

    @cached_property
    def around_rank(self) -> np.ndarray:
        """[candidates]"""
        return ranks(self.around)

    @cached_property
    def covered(self) -> np.ndarray:
        """[candidates] share of the query's weight that a unit names in all its passages together."""
        return self._cover(shown=False)

    @cached_property
    def covered_shown(self) -> np.ndarray:
        """[candidates] the same of the passages that its short form shows too."""
        return self._cover(shown=True)

    @cached_property
    def best_coverage(self) -> np.ndarray:
        return self.best(self.coverage)

    def _cover(self, *, shown: bool) -> np.ndarray:
        log = self.log
        out = np.zeros(len(log))
        for term, weight in zip(self.terms.tolist(), self.weights, strict=True):
            held = log.holding(term)
            units = log.unit[held[log.shown[held]] if shown else held]
            # Ascending: of a unit that holds the term in several passages, the first counts.
            out[units[np.diff(units, prepend=-1) > 0]] += weight
        return out[self.candidates.rows] / (self.weights.sum() or 1.0)

    @cached_property
    def rarest(self) -> np.ndarray:
        """[candidates] idf of the rarest of the query's terms a unit names, 1 for the rarest of all."""
        out = np.zeros(self.log.n)
        for place in np.argsort(self.weights, kind="stable"):
            out[self.log.holding(int(self.terms[place]))] = self.weights[place]
        return self.best(out) / (self.weights.max(initial=0.0) or 1.0)


@dataclass(frozen=True)
class Relevance:
    """What the query reaches."""

    hops: list[np.ndarray]  # [passages]: how strongly each hop leads there
    passages: np.ndarray  # [passages]: covered, or led to
    units: np.ndarray  # [candidates]: its best passage


def spread(match: QueryMatch, active: np.ndarray) -> Relevance:
    """Spread relevance from passages `active` [passages] over terms that the query does not name.

    A term as common as a function word leads nowhere.
    """
    coverage = match.coverage
    hops, reached = [], np.maximum(coverage, active)
    for hop in range(HOPS):
        led = led_to(match, active)
        hops.append(led)
        active = np.maximum(active, led * (0.4 + 0.6 * np.minimum(2 * coverage, 1)) * DECAY)
        reached = np.maximum(reached, np.minimum(coverage + led * DECAY**hop, 1.5))
    return Relevance(hops, reached, match.best(reached))


def led_to(match: QueryMatch, active: np.ndarray) -> np.ndarray:
    """[passages] how strongly the most active passages lead to each, by the best term they share."""
    log = match.log
    led = np.zeros(log.n)
    sources = _top(active, SOURCES)
    terms, sizes = log.terms(sources)
    strength = np.repeat(active[sources], sizes)
    df = log.df(terms)
    leads = (df > 1) & (df <= COMMON) & ~match.named[terms]
    terms, strength = terms[leads], strength[leads]
    strength = strength * np.minimum(log.idf(terms) / (0.7 * np.log1p(log.n)), 1.0) ** 1.5
    leads = strength > FAINT
    terms, strength = terms[leads], strength[leads]
    # In ascending order, so that the strongest of what leads to a passage is what stays.
    order = np.argsort(strength, kind="stable")
    strongest = dict(zip(terms[order].tolist(), strength[order].tolist(), strict=True))
    for term, value in sorted(strongest.items(), key=lambda item: item[1]):
        led[log.holding(term)] = value
    return led * match.alive


def _top(active: np.ndarray, n: int) -> np.ndarray:
    """Places of the `n` most active; equal ones: the earlier."""
    places = np.flatnonzero(active > FAINT)
    if len(places) > n:
        least = np.partition(active[places], len(places) - n)[len(places) - n]
        places = places[active[places] >= least]
    return places[np.argsort(-active[places], kind="stable")][:n]


def shifted(values: np.ndarray, by: int) -> np.ndarray:
    """The value of the unit `by` places later (or earlier, below 0), 0 where there is none."""
    out = np.zeros_like(values)
    if by > 0:
        out[:-by] = values[by:]
    else:
        out[-by:] = values[:by]
    return out


def ranks(values: np.ndarray) -> np.ndarray:
    """0 for the largest; equal ones: the newer first; FAR for all after the first so many."""
    places = largest(values, FAR)
    order = places[np.lexsort((-places, -values[places]))]
    found = np.full(len(values), FAR, np.int64)
    found[order] = np.arange(len(order))
    return found


def largest(values: np.ndarray, most: int) -> np.ndarray:
    """Places of the `most` largest values, in no order; of equal ones the newest."""
    n = len(values)
    if n <= most:
        return np.arange(n)
    least = np.partition(values, n - most)[n - most]
    above = np.flatnonzero(values > least)
    return np.concatenate([np.flatnonzero(values == least)[len(above) - most :], above])
