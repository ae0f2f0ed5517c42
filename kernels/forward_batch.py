"""What goes into a step of the engine and what comes out: tokens by row, how to draw, what was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

# One row's parameters as cpu/native/draw.h declares them.
DRAW = np.dtype(
    [("temperature", "f4"), ("top_p", "f4"), ("min_p", "f4"), ("top_k", "i4"), ("seed", "u8")]
)


@dataclass(frozen=True)
class ForwardBatch:
    """What one step computes: B pieces of sequences, flattened in order to T tokens (all int64).

    Pieces of a single token come first.
    """

    tokens: np.ndarray  # [T]
    rows: np.ndarray  # [B] row of the cache that each piece belongs to
    starts: np.ndarray  # [B] position of its first token
    counts: np.ndarray  # [B] its tokens
    slots: np.ndarray  # [B] its adapter slot, 0: the base
    keep: np.ndarray  # [K] tokens whose logits are wanted, rising

    @cached_property
    def row(self) -> np.ndarray:
        """Row of every token [T]."""
        return self.rows.repeat(self.counts)

    @cached_property
    def slot(self) -> np.ndarray:
        """Adapter slot of every token [T]."""
        return self.slots.repeat(self.counts)

    @cached_property
    def position(self) -> np.ndarray:
        """Position of every token in its sequence [T]."""
        shift = self.starts - (self.counts.cumsum() - self.counts)
        return np.arange(len(self.tokens)) + shift.repeat(self.counts)


class SamplingMetadata(NamedTuple):
    """What to draw for each kept row, all arrays [kept] but `ends` [vocab]."""

    how: np.ndarray  # DRAW
    skip: np.ndarray  # bool: somebody else draws for this row
    count: np.ndarray  # uint64: tokens drawn before
    room: np.ndarray  # int64: tokens still wanted
    ends: np.ndarray  # bool [vocab]: tokens that end an answer
    endless: np.ndarray  # bool: rows that do not end there
    steps: int = 1


class SamplerOutput(NamedTuple):
    """Tokens and their log-probabilities [steps, kept]; only the first `made` [kept] count."""

    token: np.ndarray
    raw: np.ndarray
    processed: np.ndarray
    made: np.ndarray

    @classmethod
    def empty(cls, steps: int, rows: int) -> SamplerOutput:
        shape = (steps, rows)
        return cls(
            np.zeros(shape, np.int64),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            np.zeros(rows, np.int64),
        )
