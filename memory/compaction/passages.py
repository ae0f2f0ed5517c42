"""Units as passages (lines and sentences) of hashed terms, and a log's units as flat arrays.

A fact is stated in one passage; noise names the same words all over a unit. Each unit is read once
and cached, so that what depends on the query is arithmetic over the arrays of `PassageIndex`
(relevance.py, features.py).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
from burnish.memory.compaction.policies.base import Candidate
from burnish.memory.search.bm25 import idf
from burnish.memory.search.terms import dense_terms, fold
from burnish.memory.sessions.units import Unit
from burnish.memory.views.shorten import shorten

BUCKETS = 1 << 20  # of hashed terms; few rare terms collide
CACHED_UNITS = 32768

_SPLIT = re.compile(r"\n|(?<=[.!?]) ")
_TERM = re.compile(r"\w+(?:[-./@:]\w+)*")
_PART = re.compile(r"[^\W_]+")
_CUES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?:error|fail\w*|exception|denied|refused|traceback|did not work|no luck)\b",
        r"\b(?:now|from (?:now|today|here)|changed?|update|correction|instead|new|switched|moved)\b",
        r"\b(?:key|token|password|secret|credential|sign in)\b",
        r"\?(?:\s|$)",
        r"\b(?:let me|i will|i wonder|maybe|thanks|please go on|noted)\b",
    )
)


@dataclass(frozen=True)
class UnitPassages:
    """One unit: `terms[i]` occurs in passage `passages[i]`, each pair once."""

    terms: np.ndarray  # int32 [pairs]
    passages: np.ndarray  # int32 [pairs], ascending
    shown: np.ndarray  # bool [passages]: also in the shortened form
    cues: np.ndarray  # float32 [passages, len(_CUES) + 1]: cues, then whether it names a value
    texts: tuple[str, ...]
    alone: np.ndarray  # float32: the features that depend on nothing else


_cache: OrderedDict[tuple[int, str], UnitPassages] = OrderedDict()


def passages_of(candidate: Candidate) -> UnitPassages:
    """The candidate's unit as passages; cached, since a step never changes."""
    unit = candidate.unit
    key = (unit.first, unit.text)
    known = _cache.get(key)
    if known is None:
        known = _cache[key] = _read(unit, candidate.tokens, candidate.short)
        if len(_cache) > CACHED_UNITS:
            _cache.popitem(last=False)
    return known


def _read(unit: Unit, tokens: int, short: int) -> UnitPassages:
    texts: list[str] = []
    shown: list[bool] = []
    for step in unit.steps:
        kept = set(shorten(step).content.splitlines())
        for line in step.text.splitlines():
            parts = [part for part in _SPLIT.split(line) if part.strip()]
            texts += parts
            shown += [line in kept or line not in step.content] * len(parts)
    texts, shown = texts or [""], shown or [True]
    terms = [hashed_terms(text) for text in texts]
    roles = [step.role for step in unit.steps]
    text_of_unit = unit.text
    alone = [
        np.log1p(tokens) / 8,
        short / max(tokens, 1),
        float(roles[0] == "user"),
        float(roles[0] == "assistant"),
        float("tool" in roles),
        float(any(step.tool_calls for step in unit.steps)),
        np.log1p(len(texts)) / 5,
        sum(map(str.isdigit, text_of_unit)) / max(len(text_of_unit), 1),
        *(float(bool(cue.search(text_of_unit))) for cue in _CUES),
    ]
    cues = [[*(bool(cue.search(text)) for cue in _CUES), _names_value(text)] for text in texts]
    return UnitPassages(
        terms=np.concatenate(terms),
        passages=np.repeat(np.arange(len(texts), dtype=np.int32), [len(t) for t in terms]),
        shown=np.array(shown),
        cues=np.array(cues, np.float32),
        texts=tuple(texts),
        alone=np.array(alone, np.float32),
    )


@lru_cache(maxsize=65536)
def hashed_terms(text: str) -> np.ndarray:
    """Distinct hashed terms: compounds such as `billing-7` or `/etc/app.toml`, and their parts."""
    words: set[str] = set()
    folded = fold(text)
    for match in _TERM.finditer(folded):
        words.add(match.group())
        words.update(_PART.findall(match.group()))
    words.update(dense_terms(folded))
    hashes = np.fromiter((crc32(word.encode()) % BUCKETS for word in words), np.int32, len(words))
    return np.unique(hashes)


def _names_value(text: str) -> bool:
    return any(any(map(str.isdigit, word)) for word in text.split())


class PassageIndex:
    """All passages of a log end to end, units and passages numbered from 0.

    A pair is a term in a passage that holds it; arrays are per pair, per passage or per unit.
    """

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> PassageIndex:
        return cls([passages_of(candidate) for candidate in candidates])

    def __init__(self, units: Sequence[UnitPassages]) -> None:
        self.units = units
        self.sizes = np.array([len(r.shown) for r in units])
        self.first = np.concatenate([[0], np.cumsum(self.sizes)])  # passage each unit begins with
        self.unit = np.repeat(np.arange(len(units)), self.sizes)
        hashed = np.concatenate([r.terms for r in units])
        seen = np.bincount(hashed, minlength=BUCKETS)
        self.known = np.flatnonzero(seen)  # the log's vocabulary; terms are indexes into it
        number = np.full(BUCKETS, -1, np.int32)
        number[self.known] = np.arange(len(self.known))
        self.number = number
        self.terms = number[hashed]
        lengths = [len(r.terms) for r in units]
        self.passage = np.concatenate([r.passages for r in units]) + np.repeat(
            self.first[:-1], lengths
        )
        self.shown = np.concatenate([r.shown for r in units])
        self.n = int(self.first[-1])
        starts = np.searchsorted(self.passage, np.arange(self.n + 1))
        self.starts = starts  # pairs of passage p: starts[p]:starts[p + 1]
        self.df = df = seen[self.known]
        self.idf = idf(self.n, df).astype(np.float32)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Per pair -> per passage."""
        return np.bincount(self.passage, values, self.n)

    def max(self, values: np.ndarray) -> np.ndarray:
        """Per pair -> per passage; 0 for passages without terms."""
        full = np.flatnonzero(np.diff(self.starts))
        out = np.zeros(self.n)
        if len(full):
            out[full] = np.maximum.reduceat(values, self.starts[full])
        return out

    def best(self, values: np.ndarray) -> np.ndarray:
        """Per passage -> per unit, the largest."""
        return np.maximum.reduceat(values, self.first[:-1])
