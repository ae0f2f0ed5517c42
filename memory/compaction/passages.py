"""Units as passages (lines and sentences) of hashed terms, and a log's passages as growing columns.

A fact is stated in one passage; noise names the same words all over a unit. Each unit is read once,
so that what depends on the query is arithmetic over the columns of `PassageIndex` (relevance.py,
features.py).
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
from burnish.memory.compaction.columns import Column
from burnish.memory.compaction.rubric_marks import Mark, marks_of
from burnish.memory.search.terms import dense_terms, fold
from burnish.memory.sessions.units import Unit
from burnish.memory.views.shorten import shorten

BUCKETS = 1 << 30  # of hashed terms; rare terms do not collide

_SPLIT = re.compile(r"\n|(?<=[.!?]) ")
_TERM = re.compile(r"\w+(?:[-./@:]\w+)*")
_PART = re.compile(r"[^\W_]+")
_SPEAKER = re.compile(r"\s*([^\W\d_][\w'-]{0,30})(?: [^\W\d_][\w'-]{0,30})?: ")
_TIMES = (
    r"\b(?:yesterday|today|tonight|tomorrow|last|next|ago|since|recently|week(?:end)?s?|months?"
    r"|years?|(?:mon|tues|wednes|thurs|fri|satur|sun)day|january|february|march|april|may|june|july"
    r"|august|september|october|november|december|spring|summer|autumn|winter|morning|evening"
    r"|\d{1,2}(?:st|nd|rd|th)|[12]\d{3}|\d{1,2}:\d\d|[ap]m)\b"
)
CUES = {
    "error": r"\b(?:error|fail\w*|exception|denied|refused|traceback|did not work|no luck)\b",
    "change": r"\b(?:now|from (?:now|today|here)|changed?|update|correction|instead|new|switched"
    r"|moved|actually|turns? out|anymore|ended up)\b",
    "secret": r"\b(?:key|token|password|secret|credential|sign in)\b",
    "question": r"\?(?:\s|$)",
    "musing": r"\b(?:let me|i will|i wonder|maybe|thanks|please go on|noted)\b",
    "time": _TIMES,
    "first_person": r"\b(?:i|i'm|i've|i'd|my|me|mine|we|our)\b",
    "number": r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|dozen|twice|couple|half)\b",
    "chat": r"^\W*(?:\w+: )?(?:yeah|yes|yep|no|nope|sure|haha|lol|wow|oh|ooh|ok|okay|nice|great|cool"
    r"|thanks|aw+|hi|hey|hello|good|sounds)\b",
}
_CUES = tuple(re.compile(pattern, re.IGNORECASE) for pattern in CUES.values())
_NAME = re.compile(r"(?<=[a-z,] )[A-Z]\w+")
PASSAGE_CUES = (*CUES, "name", "value")
ALONE = (
    *("tokens", "short_share", "user", "assistant", "tool", "calls", "passages", "digits", "mark"),
    *PASSAGE_CUES,
)


@dataclass(frozen=True)
class UnitPassages:
    """One unit: `terms[i]` occurs in passage `passages[i]`, each pair once."""

    terms: np.ndarray  # int32 [pairs], hashed
    passages: np.ndarray  # int32 [pairs], ascending
    shown: np.ndarray  # bool [passages]: also in the shortened form
    cues: np.ndarray  # float32 [passages, PASSAGE_CUES]
    lengths: np.ndarray  # float32 [passages], in characters
    alone: np.ndarray  # float32: the features that depend on nothing else
    speaker: str  # who says it, folded; "" where that is not told


def read_passages(unit: Unit, tokens: int, short: int) -> UnitPassages:
    """The unit, which costs so many tokens whole and shortened, as passages."""
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
    whole = unit.text
    cues = np.array([_cues(text) for text in texts], np.float32)
    alone = [
        np.log1p(tokens) / 8,
        short / max(tokens, 1),
        float(roles[0] == "user"),
        float(roles[0] == "assistant"),
        float("tool" in roles),
        float(any(step.tool_calls for step in unit.steps)),
        np.log1p(len(texts)) / 5,
        sum(map(str.isdigit, whole)) / max(len(whole), 1),
        marks_of(unit) / max(Mark),
        *cues.max(0),
    ]
    return UnitPassages(
        terms=np.concatenate(terms),
        passages=np.repeat(np.arange(len(texts), dtype=np.int32), [len(t) for t in terms]),
        shown=np.array(shown),
        cues=cues,
        lengths=np.array([len(text) for text in texts], np.float32),
        alone=np.array(alone, np.float32),
        speaker=_speaker(unit),
    )


def _cues(text: str) -> list[bool]:
    value = any(map(str.isdigit, text))
    return [*(bool(cue.search(text)) for cue in _CUES), bool(_NAME.search(text)), value]


def _speaker(unit: Unit) -> str:
    step = unit.steps[0]
    if step.role == "tool":
        return ""
    said = _SPEAKER.match(step.content)
    name = step.name or (said[1] if said else "")
    return fold(name)


@lru_cache(maxsize=4096)
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


class PassageIndex:
    """All passages of a log, units and passages numbered from 0; it only grows.

    A pair is a term in a passage that holds it; columns are per pair, per passage or per unit.
    """

    def __init__(self) -> None:
        self.speakers: dict[str, int] = {"": 0}
        self._number: dict[int, int] = {}  # hashed term -> its number in this log
        self._holding: list[array] = []  # by number: the passages that hold the term
        self._df, self._terms = Column(np.int32), Column(np.int32)
        self._starts, self._first = Column(np.int64), Column(np.int64)
        self._unit, self._shown, self._speaker = (
            Column(np.int32),
            Column(np.bool_),
            Column(np.int32),
        )
        self._alone = Column(np.float32, (len(ALONE),))
        self._cues, self._lengths = Column(np.float32, (len(PASSAGE_CUES),)), Column(np.float32)
        self._starts.append(0)
        self._first.append(0)

    def __len__(self) -> int:
        return len(self._speaker)

    def add(self, read: UnitPassages) -> None:
        """One more unit."""
        number, first = self._number, self.n
        for term in read.terms.tolist():
            if term not in number:
                number[term] = len(number)
                self._holding.append(array("i"))
                self._df.append(0)
        terms = np.fromiter((number[t] for t in read.terms.tolist()), np.int32, len(read.terms))
        for term, passage in zip(terms.tolist(), (read.passages + first).tolist(), strict=True):
            self._holding[term].append(passage)
        np.add.at(self._df.values, terms, 1)
        sizes = np.bincount(read.passages, minlength=len(read.shown))
        self._starts.extend(len(self._terms) + np.cumsum(sizes))
        self._terms.extend(terms)
        self._unit.extend(np.full(len(read.shown), len(self), np.int32))
        self._shown.extend(read.shown)
        self._first.append(first + len(read.shown))
        self._alone.append(read.alone)
        self._cues.extend(read.cues)
        self._lengths.extend(read.lengths)
        self._speaker.append(self.speakers.setdefault(read.speaker, len(self.speakers)))

    @property
    def n(self) -> int:
        """Passages."""
        return len(self._unit)

    @property
    def n_terms(self) -> int:
        """Different terms."""
        return len(self._holding)

    @property
    def first(self) -> np.ndarray:
        """[units + 1] the passage each unit begins with."""
        return self._first.values

    @property
    def unit(self) -> np.ndarray:
        return self._unit.values

    @property
    def alone(self) -> np.ndarray:
        """[units, ALONE]"""
        return self._alone.values

    @property
    def cues(self) -> np.ndarray:
        """[passages, PASSAGE_CUES]"""
        return self._cues.values

    @property
    def lengths(self) -> np.ndarray:
        """[passages] in characters"""
        return self._lengths.values

    @property
    def shown(self) -> np.ndarray:
        return self._shown.values

    @property
    def speaker(self) -> np.ndarray:
        """[units] numbers of `speakers`."""
        return self._speaker.values

    def numbers(self, hashed: np.ndarray) -> np.ndarray:
        """The numbers of those terms that the log holds."""
        found = (self._number.get(term) for term in hashed.tolist())
        return np.array([number for number in found if number is not None], np.int64)

    def idf(self, terms: np.ndarray) -> np.ndarray:
        df = self._df.values[terms]
        return np.log1p((self.n - df + 0.5) / (df + 0.5))

    def df(self, terms: np.ndarray) -> np.ndarray:
        return self._df.values[terms]

    def terms(self, passages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The terms of these passages end to end, and how many each has."""
        starts, terms = self._starts.values, self._terms.values
        begins, ends = starts[passages], starts[passages + 1]
        parts = [terms[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
        return np.concatenate(parts) if parts else terms[:0], ends - begins

    def holding(self, term: int) -> np.ndarray:
        """The passages that hold the term, ascending."""
        return np.array(self._holding[term], np.int32)

    def best(self, values: np.ndarray) -> np.ndarray:
        """Per passage -> per unit, the largest."""
        return np.maximum.reduceat(values, self.first[:-1])

    def of(self, units: np.ndarray) -> Segments:
        """The passages of these units, by which values are looked at for them alone."""
        first = self.first[units]
        sizes = self.first[units + 1] - first
        starts = np.cumsum(sizes) - sizes
        return Segments(np.repeat(first - starts, sizes) + np.arange(sizes.sum()), starts, sizes)


@dataclass(frozen=True)
class Segments:
    """Passages of some units end to end: `starts` and `sizes` are those of each unit."""

    passages: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    def best(self, values: np.ndarray) -> np.ndarray:
        """[all passages] -> [units], the largest of each."""
        return np.maximum.reduceat(values[self.passages], self.starts)

    def best_passage(self, values: np.ndarray) -> np.ndarray:
        """[units] the passage in which `values` is largest, the first of equal ones."""
        largest = np.flatnonzero(values[self.passages] >= np.repeat(self.best(values), self.sizes))
        return self.passages[largest[np.searchsorted(largest, self.starts)]]
