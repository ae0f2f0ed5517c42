"""BM25 (Robertson and Zaragoza 2009): the one Python implementation; sessions/rank.lua is the Lua one.

    score(d, q) = sum over terms t of q of
        idf(t) * tf * (K1 + 1) / (tf + K1 * (1 - B + B * |d| / mean |d|))
    idf(t) = ln(1 + (N - n + 0.5) / (n + 0.5))

tf is how often t occurs in d, |d| how many terms d has, N how many documents there are and n how
many of them hold t. A stem (see terms.py) counts by a quarter of that. Lucene's idf is never negative;
the mean length counts as at least 1. tests/memory/search holds Python and Lua to the same scores.

`bm25` scores texts, `sum_term_scores` counts that someone else made, and `Postings` is an inverted
index that grows. Left out: removing single documents from `Postings` (see `keep`).
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import overload

import numpy as np
from burnish.memory.search.terms import query_terms, terms, weight

K1, B = 1.2, 0.75


@overload
def idf(documents: int, matching: np.ndarray) -> np.ndarray: ...
@overload
def idf(documents: int, matching: int) -> np.floating: ...
def idf(documents: int, matching: np.ndarray | int) -> np.ndarray | np.floating:
    """Inverse document frequency of a term that `matching` of `documents` documents hold."""
    return np.log1p((documents - matching + 0.5) / (matching + 0.5))


def length_norm(lengths: np.ndarray, mean: float) -> np.ndarray:
    """How far a document's length damps its term counts; K1 for one of mean length."""
    return K1 * (1 - B + B * lengths / max(mean, 1))


def term_scores(tf: np.ndarray, norm: np.ndarray, weight: np.floating) -> np.ndarray:
    """What one term of idf `weight` adds to each document's score."""
    return weight * tf * (K1 + 1) / (tf + norm)


def sum_term_scores(
    counts: Iterable[np.ndarray], lengths: np.ndarray, weights: Iterable[float] = repeat(1.0)
) -> np.ndarray:
    """[n] float64: the scores of documents of `lengths` [n], from one [n] array of occurrences
    per query term, and that term's weight in the query."""
    scores = np.zeros(len(lengths))
    norm = length_norm(lengths, lengths.mean()) if len(lengths) else lengths
    for tf, weighs in zip(counts, weights, strict=False):
        matching = int(np.count_nonzero(tf))
        scores += weighs * term_scores(tf, norm, idf(len(lengths), matching))
    return scores


def bm25(query: str, texts: Sequence[str]) -> np.ndarray:
    """[n] float64: the score of each text for the query, 0 where they share no term."""
    wanted = {term: place for place, term in enumerate(query_terms(query))}
    tf = np.zeros((len(wanted), len(texts)))
    lengths = np.zeros(len(texts))
    for document, text in enumerate(texts):
        counts = terms(text)
        lengths[document] = counts.total()
        for term in wanted.keys() & counts.keys():
            tf[wanted[term], document] = counts[term]
    return sum_term_scores(tf, lengths, map(weight, wanted))


class Postings:
    """An inverted index over documents 0, 1, 2, ...; the caller keeps which of them are alive."""

    def __init__(self) -> None:
        self._lists: dict[str, tuple[array, array]] = {}  # term -> documents, occurrences
        self._lengths = array("f")

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, counts: Mapping[str, int]) -> None:
        """One more document, with the next number."""
        document = len(self._lengths)
        for term, count in counts.items():
            documents, occurrences = self._lists.setdefault(term, (array("i"), array("f")))
            documents.append(document)
            occurrences.append(count)
        self._lengths.append(sum(counts.values()))

    def scores(self, query: Sequence[str], alive: np.ndarray) -> np.ndarray:
        """[n] float32 for documents `alive` [n] bool, 0 for those that share no term or are
        dead; the dead do not count in any statistic."""
        scores = np.zeros(len(self), np.float32)
        total = int(alive.sum())
        if not total:
            return scores
        lengths = np.frombuffer(self._lengths, np.float32)
        mean = float(lengths[alive].mean())
        for term in query:
            if term not in self._lists:
                continue
            documents, tf = (np.frombuffer(part, part.typecode) for part in self._lists[term])
            matching = int(alive[documents].sum())
            if matching:
                norm = length_norm(lengths[documents], mean)
                scores[documents] += weight(term) * term_scores(tf, norm, idf(total, matching))
        scores[~alive] = 0
        return scores

    def keep(self, alive: np.ndarray) -> None:
        """Drop the dead for good and renumber the rest in order."""
        renumbered = np.cumsum(alive, dtype=np.int32) - 1
        lists, self._lists = self._lists, {}
        for term, (documents, occurrences) in lists.items():
            old = np.frombuffer(documents, np.int32)
            left = alive[old]
            if left.any():
                counts = np.frombuffer(occurrences, np.float32)[left]
                new = array("i", renumbered[old[left]].tobytes())
                self._lists[term] = (new, array("f", counts.tobytes()))
        kept = np.frombuffer(self._lengths, np.float32)[alive]
        self._lengths = array("f", kept.tobytes())
