"""Text embeddings for search.

`Embedder` is the protocol; one made from the served model may be injected. `HashingEmbedder` needs no
model: words and their character n-grams, hashed with signs into a fixed number of dimensions. It
knows no synonyms, but finds other forms of a word, misspellings, and text written without spaces,
all of which BM25 misses.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol
from zlib import crc32

import numpy as np
from burnish.memory.search.terms import words

DIMENSIONS = 384
NGRAMS = (3, 4, 5)
DENSE_NGRAMS = (2, 3)  # of scripts whose characters say more, such as Chinese
NGRAM_WEIGHT = 0.35  # of one n-gram to its word
LONG_WORD = 8
MAX_WORD = 24


class Embedder(Protocol):
    """Texts to vectors. Vectors of different `name`s are never compared with each other."""

    @property
    def name(self) -> str: ...

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[n, d] float32, rows of length 1; a text with nothing to embed gives zeros."""
        ...


class HashingEmbedder:
    """Signed feature hashing (Weinberger et al. 2009, arXiv:0902.2206) over words and
    character n-grams (as fastText: Bojanowski et al. 2017, arXiv:1607.04606).

    Signs make collisions cancel in expectation. The same text gives the same vector in
    every process and on every machine.
    """

    def __init__(self, dimensions: int = DIMENSIONS) -> None:
        if dimensions < 1:
            raise ValueError("dimensions must be at least 1")
        self.dimensions = dimensions

    @property
    def name(self) -> str:
        return f"hashing-{self.dimensions}"

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = [self.vector(text) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dimensions), np.float32)

    def vector(self, text: str) -> np.ndarray:
        """[d] float32, of length 1, or zeros for a text without words."""
        weights = _features(text)
        if not weights:
            return np.zeros(self.dimensions, np.float32)
        hashes = _mix(np.fromiter(map(crc32, weights), np.uint64, len(weights)))
        signs = np.where(hashes >> np.uint64(63), 1.0, -1.0)
        places = (hashes % np.uint64(self.dimensions)).astype(np.intp)
        values = np.fromiter(weights.values(), np.float64, len(weights)) * signs
        summed = np.bincount(places, values, self.dimensions)
        length = np.linalg.norm(summed)
        return (summed / length if length else summed).astype(np.float32)


def _features(text: str) -> Counter[bytes]:
    """Feature -> weight. Document frequencies are unknown, but frequent words are
    short (Zipf's law of abbreviation), so short ones weigh less; numbers count in full."""
    weights: Counter[bytes] = Counter()
    for word, count in words(text).items():
        many = 1.0 + np.log(count)
        rare = 1.0 if any(map(str.isdigit, word)) else min(len(word), LONG_WORD) / LONG_WORD
        weights[word.encode()] += many * rare
        padded = f"<{word[:MAX_WORD]}>"
        for size in NGRAMS if word.isascii() else DENSE_NGRAMS:
            for start in range(len(padded) - size + 1):
                gram = padded[start : start + size]
                weights[f"#{gram}".encode()] += NGRAM_WEIGHT * many * rare
    return weights


def _mix(hashes: np.ndarray) -> np.ndarray:
    """Spread 32 bits over 64 (the finaliser of SplitMix64), so that sign and place differ."""
    with np.errstate(over="ignore"):
        hashes = hashes + np.uint64(0x9E3779B97F4A7C15)
        hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return hashes ^ (hashes >> np.uint64(31))
