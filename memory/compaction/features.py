"""The learned policy's features: numbers about each candidate, the query and the other candidates.

Arithmetic over columns: the log as passages (passages.py), its relevance to the query (relevance.py),
BM25 as any search has it, and what stands beside a hit, for in talk an answer follows its question.
Only a short list, the most relevant and the newest units, gets features. Serving and training use the
same code, so that both see the same. Left out: the network (scorer.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from burnish.memory.compaction.passages import ALONE, PASSAGE_CUES, PassageIndex
from burnish.memory.compaction.policies.base import CompactionTask
from burnish.memory.compaction.relevance import (
    FAR,
    QueryMatch,
    Relevance,
    largest,
    led_to,
    ranks,
    shifted,
    spread,
)
from burnish.memory.search.terms import fold

UNNAMED = 0.3  # of what a link leads to and the query does not name
SHORT_LIST = 192
NEWEST = 16  # of the short list at least
COST_EXPONENT = 0.2  # how far a unit's price counts against it in the short list

ASKS = {
    "many": r"\b(?:how many|how often|number|count|total|all|which|every|list)\b",
    "earlier": r"\b(?:before|previous\w*|earlier|first|until|originally|used to)\b",
    "when": r"\b(?:when|what (?:day|date|year|month|time)|how long|since)\b",
    "who": r"\b(?:who|whose|whom)\b",
    "where": r"\b(?:where|what (?:city|country|place|town))\b",
    "amount": r"\bhow (?:much|big|far|old|many)\b",
    "why": r"\b(?:why|how (?:did|does|do|come)|reason)\b",
    "own": r"\b(?:i|i'm|i've|my|me|mine|we|our)\b",
    "you": r"\b(?:you|your)\b",
}
_ASKS = tuple(re.compile(pattern, re.IGNORECASE) for pattern in ASKS.values())
_WORD = re.compile(r"[\w'-]+")

FEATURE_NAMES = (
    # of the unit alone
    *ALONE,
    # of its place
    *("age", "steps_ago", "newest_8"),
    # against the query
    *("bm25", "bm25_rank", "covered", "covered_shown", "best", "best_shown", "best_rank"),
    *("rarest", "hop1", "hop2", "hop3", "hop4", "reach", "reach_rank", "reach_shown"),
    *("hop1_rank", "both", "both_rank"),
    # of what stands beside it
    *("bm25_1_before", "bm25_2_before", "bm25_1_after", "bm25_2_after", "around", "around_rank"),
    *("best_before", "best_after", "asked_before", "asks_after"),
    # of who says it
    *("speaker_named", "other_named"),
    # of its best passage
    *("best_length", *(f"best_{cue}" for cue in PASSAGE_CUES), "best_first", "best_last"),
    # against other units
    *("repeated_later", "later", "repeated_earlier", "earlier", "better_later", "better_earlier"),
    # of the task
    *("budget", "room", "log", "before_it", *(f"asks_{kind}" for kind in ASKS), "query_terms"),
    "peak",
    # of an earlier look, see `next_look`
    *("look", "seen_worth"),
)
N_FEATURES = len(FEATURE_NAMES)
_QUESTION = ALONE.index("question")


@dataclass(frozen=True)
class Features:
    """`rows[i]` describes candidate `chosen[i]`; `passage[i]` is its most relevant passage."""

    rows: np.ndarray  # float32 [n, N_FEATURES]
    chosen: np.ndarray  # int [n], ascending
    passage: np.ndarray  # int [n]
    match: QueryMatch
    look: int = 0


def first_look(task: CompactionTask, most: int = SHORT_LIST) -> Features:
    """The features of a task's short list before any scores, of `most` candidates. Deterministic."""
    match = QueryMatch.of(task.log, task.query)
    return _look(task, match, match.coverage**3, np.zeros(len(task.log)), 0, most)


def next_look(
    task: CompactionTask, before: Features, scores: np.ndarray, most: int = SHORT_LIST
) -> Features:
    """Features after the last look was scored, `scores` [n] in 0..1: relevance now spreads from what
    scored high, instead of from all that names a term of the query."""
    seen = np.zeros(len(task.log))
    seen[before.chosen] = scores
    return _look(task, before.match, _active(before, scores), seen, before.look + 1, most)


def followed(last: Features, scores: np.ndarray) -> np.ndarray:
    """[candidates] how strongly what scored high in the last look leads to each, the more so where the
    query names it too: the ends of chains for which looks and short list were too short."""
    match = last.match
    return match.best(led_to(match, _active(last, scores)) * (UNNAMED + match.coverage))


def _active(look: Features, scores: np.ndarray) -> np.ndarray:
    """[passages] where relevance spreads from, once a look was scored."""
    active = 0.02 * look.match.coverage**3
    active[look.passage] = np.maximum(active[look.passage], scores)
    return active


def _look(
    task: CompactionTask,
    match: QueryMatch,
    active: np.ndarray,
    seen: np.ndarray,
    look: int,
    most: int,
) -> Features:
    n = len(task.log)
    if not n:
        none = np.zeros(0, np.int64)
        return Features(np.zeros((0, N_FEATURES), np.float32), none, none, match, look)
    relevance = spread(match, active)
    price = np.maximum(task.log.short, 1) ** COST_EXPONENT
    wanted = (relevance.units + seen + match.bm25 + 0.3 * match.around) / price
    wanted[max(0, n - NEWEST) :] = np.inf
    chosen = np.sort(largest(wanted, most))
    values, passage = _rows(task, match, relevance, chosen)
    last = np.array([np.full(len(chosen), (look > 0) / 2), seen[chosen]], np.float32).T
    return Features(np.concatenate([values, last], axis=1), chosen, passage, match, look)


def _rows(
    task: CompactionTask,
    match: QueryMatch,
    relevance: Relevance,
    chosen: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """[n, ...] the features, and [n] the most relevant passage of each."""
    log, coverage, reached = match.log, match.coverage, relevance.passages
    n, units = len(chosen), len(task.log)
    tokens = task.log.tokens.astype(float)
    rows = task.log.rows[chosen]
    at = log.of(rows)
    passage = at.best_passage(reached)
    best = match.best_coverage
    hops = [at.best(hop) for hop in relevance.hops]
    # Named by the query and led to in one passage: the last link of a chain.
    both = at.best(np.sqrt(coverage * relevance.hops[0]))
    rank = ranks(relevance.units[chosen])
    order = np.argsort(rank, kind="stable")
    before_it = np.empty(n)
    before_it[order] = np.cumsum(tokens[chosen][order]) - tokens[chosen][order]
    within = passage - log.first[rows]
    asks = log.alone[task.log.rows, _QUESTION]

    columns = [
        *log.alone[rows].T,
        1 - chosen / units,
        _log_rank(units - 1 - chosen),
        chosen >= units - 8,
        match.bm25[chosen],
        _log_rank(match.bm25_rank[chosen]),
        match.covered[chosen],
        match.covered_shown[chosen],
        best[chosen],
        at.best(coverage * log.shown),
        _log_rank(ranks(best[chosen])),
        match.rarest[chosen],
        *hops,
        relevance.units[chosen],
        _log_rank(rank),
        at.best(reached * log.shown),
        _log_rank(ranks(hops[0])),
        both,
        _log_rank(ranks(both)),
        *(shifted(match.bm25, by)[chosen] for by in (-1, -2, 1, 2)),
        match.around[chosen],
        _log_rank(match.around_rank[chosen]),
        shifted(best, -1)[chosen],
        shifted(best, 1)[chosen],
        shifted(asks, -1)[chosen],
        shifted(asks, 1)[chosen],
        *_named(log, rows, task.query),
        np.log1p(log.lengths[passage]) / 6,
        *log.cues[passage].T,
        within == 0,
        within == log.first[rows + 1] - log.first[rows] - 1,
        *_rivals(log, passage, relevance.units[chosen]),
        np.full(n, np.log10(max(task.budget, 1) / max(tokens.sum(), 1)) / 2),
        np.log1p(task.budget / np.maximum(tokens[chosen], 1)) / 8,
        _log_rank(np.full(n, units)),
        np.minimum(before_it / max(task.budget, 1), 4) / 4,
        *(np.full(n, bool(asks_it.search(task.query))) for asks_it in _ASKS),
        np.full(n, len(match.terms) / 16),
        np.full(n, match.peak),
    ]
    return np.stack([np.asarray(column, np.float32) for column in columns], axis=1), passage


def _named(log: PassageIndex, rows: np.ndarray, query: str) -> list[np.ndarray]:
    """Whether the query names who says it, and whether it names somebody else who speaks."""
    words = {word.removesuffix("'s") for word in _WORD.findall(fold(query))}
    named = np.array([number for name, number in log.speakers.items() if name and name in words])
    speaker = log.speaker[rows]
    own = np.isin(speaker, named)
    return [own, ~own & (speaker > 0) & bool(len(named))]


def _log_rank(rank: np.ndarray) -> np.ndarray:
    return np.log1p(np.minimum(rank, FAR)) / np.log1p(FAR)


def _rivals(log: PassageIndex, passage: np.ndarray, reach: np.ndarray) -> list[np.ndarray]:
    """How far later and earlier units say the same (supersession), and how many are as relevant."""
    every, sizes = log.terms(passage)
    row = np.repeat(np.arange(len(passage)), sizes)
    identify = log.df(every) > 1  # a value named once identifies nothing
    vocabulary, column = np.unique(every[identify], return_inverse=True)
    held = np.zeros((len(passage), max(len(vocabulary), 1)), np.float32)
    held[row[identify], column] = 1.0
    weights = held * np.asarray(log.idf(vocabulary) if len(vocabulary) else [0.0], np.float32)
    mass = np.maximum(weights.sum(1), 1e-6)
    same = (weights @ held.T) / mass[:, None]  # of row i, held by j
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
