"""Candidates as passages of hashed terms: read once, then plain arrays.

A unit is split into lines and sentences, since a fact is one of them while noise names its words
all over the place. `Index` lays all units of a log end to end, so that what depends on the query is
arithmetic over flat arrays (features.py). Left out: what anything means.
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
from burnish.memory.sessions.units import Unit
from burnish.memory.views.shorten import shorten

BUCKETS = 1 << 20  # of hashed terms; two rare terms seldom meet
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
class Reading:
    """One unit as terms: `terms[i]` is in passage `passages[i]`, each pair once."""

    terms: np.ndarray  # int32 [pairs]
    passages: np.ndarray  # int32 [pairs], ascending
    shown: np.ndarray  # bool [passages]: also in the shortened form
    cues: np.ndarray  # float32 [passages, len(_CUES) + 1]: cues, then whether it names a value
    texts: tuple[str, ...]
    alone: np.ndarray  # float32: the features that depend on nothing else


_readings: OrderedDict[tuple[int, str], Reading] = OrderedDict()


def read(candidate: Candidate) -> Reading:
    """A unit's terms; kept, since a step never changes."""
    unit = candidate.unit
    key = (unit.first, unit.text)
    known = _readings.get(key)
    if known is None:
        known = _readings[key] = _read(unit, candidate.tokens, candidate.short)
        if len(_readings) > CACHED_UNITS:
            _readings.popitem(last=False)
    return known


def _read(unit: Unit, tokens: int, short: int) -> Reading:
    texts: list[str] = []
    shown: list[bool] = []
    for step in unit.steps:
        left = set(shorten(step).content.splitlines())
        for line in step.text.splitlines():
            parts = [part for part in _SPLIT.split(line) if part.strip()]
            texts += parts
            shown += [line in left or line not in step.content] * len(parts)
    texts, shown = texts or [""], shown or [True]
    found = [hashed_terms(text) for text in texts]
    roles = [step.role for step in unit.steps]
    whole = unit.text
    alone = [
        np.log1p(tokens) / 8,
        short / max(tokens, 1),
        float(roles[0] == "user"),
        float(roles[0] == "assistant"),
        float("tool" in roles),
        float(any(step.tool_calls for step in unit.steps)),
        np.log1p(len(texts)) / 5,
        sum(map(str.isdigit, whole)) / max(len(whole), 1),
        *(float(bool(cue.search(whole))) for cue in _CUES),
    ]
    cues = [[*(bool(cue.search(text)) for cue in _CUES), _names_value(text)] for text in texts]
    return Reading(
        terms=np.concatenate(found),
        passages=np.repeat(np.arange(len(texts), dtype=np.int32), [len(t) for t in found]),
        shown=np.array(shown),
        cues=np.array(cues, np.float32),
        texts=tuple(texts),
        alone=np.array(alone, np.float32),
    )


@lru_cache(maxsize=65536)
def hashed_terms(text: str) -> np.ndarray:
    """Distinct hashed terms: compounds such as `billing-7` or `/etc/app.toml`, and their parts."""
    words: set[str] = set()
    for match in _TERM.finditer(text.casefold()):
        words.add(match.group())
        words.update(_PART.findall(match.group()))
    hashes = np.fromiter((crc32(word.encode()) % BUCKETS for word in words), np.int32, len(words))
    return np.unique(hashes)


def _names_value(text: str) -> bool:
    return any(any(map(str.isdigit, word)) for word in text.split())


class Index:
    """All readings end to end. Passages and units are numbered through."""

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> Index:
        return cls([read(candidate) for candidate in candidates])

    def __init__(self, readings: Sequence[Reading]) -> None:
        self.readings = readings
        self.sizes = np.array([len(r.shown) for r in readings])
        self.first = np.concatenate([[0], np.cumsum(self.sizes)])  # passage each unit begins with
        self.unit = np.repeat(np.arange(len(readings)), self.sizes)
        hashed = np.concatenate([r.terms for r in readings])
        seen = np.bincount(hashed, minlength=BUCKETS)
        self.known = np.flatnonzero(seen)  # the log's vocabulary; terms are places in it
        number = np.full(BUCKETS, -1, np.int32)
        number[self.known] = np.arange(len(self.known))
        self.number = number
        self.terms = number[hashed]
        lengths = [len(r.terms) for r in readings]
        self.passage = np.concatenate([r.passages for r in readings]) + np.repeat(
            self.first[:-1], lengths
        )
        self.shown = np.concatenate([r.shown for r in readings])
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
