"""The learned policy's features: numbers about each candidate, the query and the other candidates.

Arithmetic over flat arrays: the log as passages (passages.py), its relevance to the query
(relevance.py). Only a short list, the most relevant and the newest units, gets the features that
compare units with each other. Serving and training use the same code, so that both see the same.
Left out: the network (scorer.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from burnish.memory.compaction.passages import PassageIndex
from burnish.memory.compaction.policies.base import CompactionTask
from burnish.memory.compaction.relevance import QueryMatch, Relevance, embed, spread

SHORT_LIST = 640
NEWEST = 16  # of the short list at least
FAR = 128  # ranks and distances beyond say nothing more: logs grow past any trained on
COST_EXPONENT = 0.2  # how far a unit's price counts against it in the short list

_ASKS_MANY = re.compile(r"\b(?:how many|number|count|total|all|which|every|list)\b", re.IGNORECASE)
_ASKS_EARLIER = re.compile(r"\b(?:before|previous\w*|earlier|first|until)\b", re.IGNORECASE)

FEATURE_NAMES = (
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
    # of an earlier look, see `next_look`
    *("look", "seen_worth"),
)
N_FEATURES = len(FEATURE_NAMES)


@dataclass(frozen=True)
class Features:
    """`rows[i]` describes candidate `chosen[i]`; `passage[i]` is its most relevant passage."""

    rows: np.ndarray  # float32 [n, N_FEATURES]
    chosen: np.ndarray  # int [n], ascending
    passage: np.ndarray  # int [n]
    match: QueryMatch
    look: int = 0


def first_look(task: CompactionTask, log: PassageIndex | None = None) -> Features:
    """The features of a task's short list before any scores; about linear in the log.

    Deterministic. `log` is `PassageIndex.of(task.candidates)`, to be given where several questions
    are match of one log.
    """
    match = QueryMatch.of(log or PassageIndex.of(task.candidates), task.query)
    return _look(task, match, match.coverage**3, np.zeros(len(task.candidates)), 0)


def next_look(task: CompactionTask, before: Features, scores: np.ndarray) -> Features:
    """Features after the last look was scored, `scores` [n] in 0..1: relevance now spreads from what
    scored high, instead of from all that names a term of the query."""
    seen = np.zeros(len(task.candidates))
    seen[before.chosen] = scores
    active = 0.02 * before.match.coverage**3
    active[before.passage] = np.maximum(active[before.passage], scores)
    return _look(task, before.match, active, seen, before.look + 1)


def _look(
    task: CompactionTask, match: QueryMatch, active: np.ndarray, seen: np.ndarray, look: int
) -> Features:
    n = len(task.candidates)
    if not n:
        none = np.zeros(0, np.int64)
        return Features(np.zeros((0, N_FEATURES), np.float32), none, none, match, look)
    relevance = spread(match, active)
    price = np.array([max(c.short, 1) for c in task.candidates], float)
    order = np.argsort(_ranks((relevance.units + seen) / price**COST_EXPONENT))
    newest = np.arange(max(0, n - NEWEST), n)
    picked = np.concatenate([newest, order[~np.isin(order, newest)]])[:SHORT_LIST]
    chosen = np.sort(picked)
    passage = np.array([_best_passage(match.log, relevance.passages, u) for u in chosen])
    rows = _rows(task, match, relevance, chosen, passage)
    last = np.array([np.full(len(chosen), look / 2), seen[chosen]], np.float32).T
    return Features(np.concatenate([rows, last], axis=1), chosen, passage, match, look)


def _rows(
    task: CompactionTask,
    match: QueryMatch,
    relevance: Relevance,
    chosen: np.ndarray,
    passage: np.ndarray,
) -> np.ndarray:
    log, coverage, reached = match.log, match.coverage, relevance.passages
    n, units = len(chosen), len(task.candidates)
    tokens = np.array([c.tokens for c in task.candidates], float)
    best, best_shown = log.best(coverage), log.best(coverage * log.shown)
    # Named by the query and led to in one passage: the last link of a chain.
    both = log.best(np.sqrt(coverage * relevance.hops[0]))
    rank = _ranks(relevance.units)
    after = np.concatenate([[0.0], np.cumsum(tokens[np.argsort(rank, kind="stable")])])[rank]
    rarest = np.zeros(len(log.known), np.float32)
    rarest[match.terms] = log.idf[match.terms] / (log.idf[match.terms].max(initial=0.0) or 1.0)
    within = passage - log.first[chosen]
    best_passages = [(log.units[int(u)], int(w)) for u, w in zip(chosen, within, strict=True)]
    cues = np.array([unit.cues[w] for unit, w in best_passages])
    texts = [unit.texts[w] for unit, w in best_passages]

    columns = [
        *np.array([log.units[u].alone for u in chosen]).T,
        1 - chosen / units,
        _log_rank(units - 1 - chosen),
        chosen >= units - 8,
        match.bm25[chosen],
        _log_rank(_ranks(match.bm25)[chosen]),
        _cover(match, chosen, np.ones(log.n, bool)),
        _cover(match, chosen, log.shown),
        best[chosen],
        best_shown[chosen],
        _log_rank(_ranks(best)[chosen]),
        log.best(log.max(rarest[log.terms]))[chosen],
        np.array([float(embed(text) @ match.vector) for text in texts]),
        *(log.best(hop)[chosen] for hop in relevance.hops),
        relevance.units[chosen],
        _log_rank(rank[chosen]),
        log.best(reached * log.shown)[chosen],
        _log_rank(_ranks(log.best(relevance.hops[0]))[chosen]),
        both[chosen],
        _log_rank(_ranks(both)[chosen]),
        np.log1p([len(text) for text in texts]) / 6,
        cues[:, 5],
        *cues[:, :5].T,
        within == 0,
        within == log.sizes[chosen] - 1,
        *_rivals(log, chosen, passage, relevance.units[chosen]),
        np.full(n, np.log10(max(task.budget, 1) / max(tokens.sum(), 1)) / 2),
        np.log1p(task.budget / np.maximum(tokens[chosen], 1)) / 8,
        _log_rank(np.full(n, units)),
        np.minimum(after[chosen] / max(task.budget, 1), 4) / 4,
        np.full(n, bool(_ASKS_MANY.search(task.query))),
        np.full(n, bool(_ASKS_EARLIER.search(task.query))),
        np.full(n, len(match.terms) / 16),
        np.full(n, match.peak),
    ]
    return np.stack([np.asarray(column, np.float32) for column in columns], axis=1)


def _best_passage(log: PassageIndex, reached: np.ndarray, unit: int) -> int:
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


def _cover(match: QueryMatch, chosen: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Share of the query's weight that a unit names in all of its (shown) passages together."""
    log, weights = match.log, match.log.idf[match.terms]
    out = np.zeros(len(log.sizes))
    for term, weight in zip(match.terms, weights, strict=True):
        held = log.passage[log.terms == term]
        out[np.unique(log.unit[held[shown[held]]])] += weight
    return out[chosen] / (weights.sum() or 1.0)


def _rivals(
    log: PassageIndex, chosen: np.ndarray, passage: np.ndarray, reach: np.ndarray
) -> list[np.ndarray]:
    """How far later and earlier units say the same (supersession), and how many are as relevant."""
    pairs = [log.terms[log.starts[p] : log.starts[p + 1]] for p in passage]
    pairs = [terms[log.df[terms] > 1] for terms in pairs]  # a value named once identifies nothing
    vocabulary, column = np.unique(np.concatenate(pairs), return_inverse=True)
    row = np.repeat(np.arange(len(chosen)), [len(terms) for terms in pairs])
    weights = np.zeros((len(chosen), max(len(vocabulary), 1)), np.float32)
    weights[row, column] = log.idf[vocabulary[column]]
    mass = np.maximum(weights.sum(1), 1e-6)
    same = (weights @ (weights > 0).T.astype(np.float32)) / mass[:, None]  # of row i, held by j
    # Shared terms say that two units are about the same, their order which supersedes which.
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
