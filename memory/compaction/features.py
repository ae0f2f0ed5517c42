"""What the learned policy sees of each candidate: numbers about it, its rivals and the query.

A unit is read once into passages (lines and sentences) of hashed terms, which is kept; everything
that depends on query, log and budget is then arithmetic over flat arrays. Relevance spreads from
the query over shared rare terms (a person, then the service that person looks after, then its
port), as multi-hop questions need. Only a short list, the most relevant and the newest units, gets
the features that compare units with each other. Used by serving and training alike, so that both
see the same. Left out: the network (scorer.py) and any knowledge of what text means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from burnish.memory.compaction.passages import Index, hashed_terms
from burnish.memory.compaction.policies.base import Task
from burnish.memory.search.bm25 import sum_term_scores
from burnish.memory.search.embedding import HashingEmbedder

SHORT_LIST = 640
NEWEST = 16  # of the short list at least
FAR = 128  # ranks and distances beyond say nothing more: logs grow past any trained on
CHEAPER = 0.2  # how far a unit's price counts against it in the short list
HOPS = 4
DECAY = 0.7  # of relevance, per hop
SOURCES = 48  # passages a hop spreads from

_ASKS_MANY = re.compile(r"\b(?:how many|number|count|total|all|which|every|list)\b", re.IGNORECASE)
_ASKS_EARLIER = re.compile(r"\b(?:before|previous\w*|earlier|first|until)\b", re.IGNORECASE)

NAMES = (
    # of the unit alone
    *("tokens", "short_share", "user", "assistant", "tool", "calls", "passages", "digits"),
    *("error", "change", "secret", "question", "musing"),
    # of its place
    *("age", "steps_ago", "newest_8"),
    # against the query
    *("bm25", "bm25_rank", "covered", "covered_shown", "best", "best_shown", "best_rank"),
    *("rarest", "similar", "hop1", "hop2", "hop3", "hop4", "reach", "reach_rank", "reach_shown"),
    *("hop1_rank", "both", "both_rank"),
    # of its best passage
    *("best_tokens", "best_value", "best_error", "best_change", "best_secret", "best_question"),
    *("best_musing", "best_first", "best_last"),
    # against other units
    *("repeated_later", "later", "repeated_earlier", "earlier", "better_later", "better_earlier"),
    # of the task
    *("budget", "room", "log", "before_it", "asks_many", "asks_earlier", "query_terms", "peak"),
    # of an earlier look, see `look_again`
    *("look", "seen_worth"),
)
WIDTH = len(NAMES)

_vector = lru_cache(maxsize=16384)(HashingEmbedder(128).vector)


@dataclass(frozen=True)
class Features:
    """`rows[i]` describes candidate `chosen[i]`; `place[i]` is its most relevant passage."""

    rows: np.ndarray  # float32 [n, WIDTH]
    chosen: np.ndarray  # int [n], ascending
    place: np.ndarray  # int [n]
    asked: Asked
    look: int = 0


def describe(task: Task, log: Index | None = None) -> Features:
    """The features of a task's short list at first sight; about linear in the log. Deterministic.

    `log` is `Index.of(task.candidates)`, for those who ask several questions of one log.
    """
    asked = Asked.of(log or Index.of(task.candidates), task.query)
    return _described(task, asked, asked.near**3, np.zeros(len(task.candidates)), 0)


def look_again(task: Task, before: Features, worth: np.ndarray) -> Features:
    """Features after a first judgement, `worth` [n] in 0..1: relevance now spreads from what was
    thought worth keeping, instead of from all that names a word of the query."""
    seen = np.zeros(len(task.candidates))
    seen[before.chosen] = worth
    active = 0.02 * before.asked.near**3
    active[before.place] = np.maximum(active[before.place], worth)
    return _described(task, before.asked, active, seen, before.look + 1)


def _described(
    task: Task, asked: Asked, active: np.ndarray, seen: np.ndarray, look: int
) -> Features:
    n = len(task.candidates)
    if not n:
        none = np.zeros(0, np.int64)
        return Features(np.zeros((0, WIDTH), np.float32), none, none, asked, look)
    found = _spread(asked, active)
    price = np.array([max(c.short, 1) for c in task.candidates], float)
    order = np.argsort(_ranks((found.reach + seen) / price**CHEAPER))
    newest = np.arange(max(0, n - NEWEST), n)
    picked = np.concatenate([newest, order[~np.isin(order, newest)]])[:SHORT_LIST]
    chosen = np.sort(picked)
    place = np.array([_best_passage(asked.log, found.reached, u) for u in chosen])
    rows = _rows(task, asked, found, chosen, place)
    last = np.array([np.full(len(chosen), look / 2), seen[chosen]], np.float32).T
    return Features(np.concatenate([rows, last], axis=1), chosen, place, asked, look)


# -- relevance -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A log against a query, before relevance spreads."""

    log: Index
    terms: np.ndarray  # places in the vocabulary: the query's terms that the log knows
    bm25: np.ndarray  # per unit, 1 for the best
    near: np.ndarray  # per passage: share of the query's weight it names, 1 for the best
    peak: float  # that share itself, of the best
    vector: np.ndarray  # the query, embedded

    @classmethod
    def of(cls, log: Index, query: str) -> Asked:
        known = log.number[hashed_terms(query)]
        terms = known[known >= 0]
        weight = np.zeros(len(log.known), np.float32)
        weight[terms] = log.idf[terms]
        covered = log.sum(weight[log.terms]) / (float(weight.sum()) or 1.0)
        peak = float(covered.max(initial=0.0)) or 1.0
        return cls(log, terms, _bm25(log, terms), covered / peak, peak, _vector(query))


@dataclass(frozen=True)
class _Found:
    hops: list[np.ndarray]  # per passage: how strongly each hop leads there
    reached: np.ndarray  # per passage: near, or led to
    reach: np.ndarray  # per unit: the best of it


def _spread(asked: Asked, active: np.ndarray) -> _Found:
    """Over terms the query does not name; one as common as a word of grammar leads nowhere."""
    log, near = asked.log, asked.near
    rarity = np.minimum(log.idf / (0.7 * np.log1p(log.n)), 1.0) ** 1.5
    rarity[asked.terms] = 0.0
    rarity[log.df < 2] = 0.0
    hops, reached = [], np.maximum(near, active)
    for hop in range(HOPS):
        spread = np.zeros(len(log.known))
        for p in np.argsort(-active, kind="stable")[:SOURCES]:
            own = log.terms[log.starts[p] : log.starts[p + 1]]
            np.maximum.at(spread, own, active[p] * rarity[own])
        led = log.max(spread[log.terms])
        hops.append(led)
        active = np.maximum(active, led * (0.4 + 0.6 * np.minimum(2 * near, 1)) * DECAY)
        reached = np.maximum(reached, np.minimum(near + led * DECAY**hop, 1.5))
    return _Found(hops, reached, log.best(reached))


def _bm25(log: Index, asked: np.ndarray) -> np.ndarray:
    """Per unit, 1 for the best; occurrences are counted in passages."""
    units = len(log.sizes)
    lengths = np.bincount(log.unit[log.passage], minlength=units)
    holding = (log.unit[log.passage[log.terms == term]] for term in asked)
    score = sum_term_scores((np.bincount(u, minlength=units) for u in holding), lengths)
    return score / (score.max(initial=0.0) or 1.0)


# -- rows ------------------------------------------------------------------------------------------


def _rows(
    task: Task, asked: Asked, found: _Found, chosen: np.ndarray, place: np.ndarray
) -> np.ndarray:
    log, near, reached = asked.log, asked.near, found.reached
    n, units = len(chosen), len(task.candidates)
    tokens = np.array([c.tokens for c in task.candidates], float)
    best, best_shown = log.best(near), log.best(near * log.shown)
    # Named by the query and led to in one passage: the last link of a chain.
    both = log.best(np.sqrt(near * found.hops[0]))
    rank = _ranks(found.reach)
    after = np.concatenate([[0.0], np.cumsum(tokens[np.argsort(rank, kind="stable")])])[rank]
    rarest = np.zeros(len(log.known), np.float32)
    rarest[asked.terms] = log.idf[asked.terms] / (log.idf[asked.terms].max(initial=0.0) or 1.0)
    within = place - log.first[chosen]
    of = [(log.readings[int(u)], int(w)) for u, w in zip(chosen, within, strict=True)]
    cues = np.array([reading.cues[w] for reading, w in of])
    texts = [reading.texts[w] for reading, w in of]

    columns = [
        *np.array([log.readings[u].alone for u in chosen]).T,
        1 - chosen / units,
        _log_rank(units - 1 - chosen),
        chosen >= units - 8,
        asked.bm25[chosen],
        _log_rank(_ranks(asked.bm25)[chosen]),
        _cover(asked, chosen, np.ones(log.n, bool)),
        _cover(asked, chosen, log.shown),
        best[chosen],
        best_shown[chosen],
        _log_rank(_ranks(best)[chosen]),
        log.best(log.max(rarest[log.terms]))[chosen],
        np.array([float(_vector(text) @ asked.vector) for text in texts]),
        *(log.best(hop)[chosen] for hop in found.hops),
        found.reach[chosen],
        _log_rank(rank[chosen]),
        log.best(reached * log.shown)[chosen],
        _log_rank(_ranks(log.best(found.hops[0]))[chosen]),
        both[chosen],
        _log_rank(_ranks(both)[chosen]),
        np.log1p([len(text) for text in texts]) / 6,
        cues[:, 5],
        *cues[:, :5].T,
        within == 0,
        within == log.sizes[chosen] - 1,
        *_rivals(log, chosen, place, found.reach[chosen]),
        np.full(n, np.log10(max(task.budget, 1) / max(tokens.sum(), 1)) / 2),
        np.log1p(task.budget / np.maximum(tokens[chosen], 1)) / 8,
        _log_rank(np.full(n, units)),
        np.minimum(after[chosen] / max(task.budget, 1), 4) / 4,
        np.full(n, bool(_ASKS_MANY.search(task.query))),
        np.full(n, bool(_ASKS_EARLIER.search(task.query))),
        np.full(n, len(asked.terms) / 16),
        np.full(n, asked.peak),
    ]
    return np.stack([np.asarray(column, np.float32) for column in columns], axis=1)


def _best_passage(log: Index, reached: np.ndarray, unit: int) -> int:
    first, last = log.first[unit], log.first[unit + 1]
    return int(first + np.argmax(reached[first:last]))


def _ranks(values: np.ndarray) -> np.ndarray:
    """0 for the largest; equal ones: the newer first."""
    order = np.lexsort((-np.arange(len(values)), -values))
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.arange(len(values))
    return ranks


def _log_rank(rank: np.ndarray) -> np.ndarray:
    return np.log1p(np.minimum(rank, FAR)) / np.log1p(FAR)


def _cover(asked: Asked, chosen: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Share of the query's weight that a unit names in all of its (shown) passages together."""
    log, weights = asked.log, asked.log.idf[asked.terms]
    out = np.zeros(len(log.sizes))
    for term, weight in zip(asked.terms, weights, strict=True):
        held = log.passage[log.terms == term]
        out[np.unique(log.unit[held[shown[held]]])] += weight
    return out[chosen] / (weights.sum() or 1.0)


def _rivals(
    log: Index, chosen: np.ndarray, place: np.ndarray, reach: np.ndarray
) -> list[np.ndarray]:
    """How far later and earlier units say the same (supersession), and how many rank as high."""
    pairs = [log.terms[log.starts[p] : log.starts[p + 1]] for p in place]
    pairs = [terms[log.df[terms] > 1] for terms in pairs]  # a value named once identifies nothing
    vocabulary, column = np.unique(np.concatenate(pairs), return_inverse=True)
    row = np.repeat(np.arange(len(chosen)), [len(terms) for terms in pairs])
    weights = np.zeros((len(chosen), max(len(vocabulary), 1)), np.float32)
    weights[row, column] = log.idf[vocabulary[column]]
    mass = np.maximum(weights.sum(1), 1e-6)
    same = (weights @ (weights > 0).T.astype(np.float32)) / mass[:, None]  # of row i, held by j
    # Terms say it, the order of steps decides which of two supersedes.
    later = np.triu(np.ones_like(same), 1)
    earlier = later.T
    as_high = (reach[None, :] >= reach[:, None] - 0.02).astype(np.float32)
    return [
        (same * later).max(1),
        np.log1p(((same > 0.7) * later).sum(1)) / 4,
        (same * earlier).max(1),
        np.log1p(((same > 0.7) * earlier).sum(1)) / 4,
        np.log1p((as_high * later).sum(1)) / 6,
        np.log1p((as_high * earlier).sum(1)) / 6,
    ]
