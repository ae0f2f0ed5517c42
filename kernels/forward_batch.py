"""Input and output of a step of the engine: tokens by row, sampling parameters, sampled tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

# `SamplingParams` of cpu/native/sampling.h.
SAMPLING_DTYPE = np.dtype(
    [("temperature", "f4"), ("top_p", "f4"), ("min_p", "f4"), ("top_k", "i4"), ("seed", "u8")]
)


@dataclass(frozen=True)
class ForwardBatch:
    """The tokens of one step: B pieces of sequences, flattened in order to T tokens (all int64).

    Pieces of a single token (decode) come before longer ones (prefill).
    """

    tokens: np.ndarray  # [T]
    rows: np.ndarray  # [B] row of the page table that each piece belongs to
    starts: np.ndarray  # [B] position of its first token
    counts: np.ndarray  # [B] number of its tokens
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
    """How to sample for each kept token, all arrays [kept] but `is_eos` [vocab]."""

    params: np.ndarray  # DRAW
    skip: np.ndarray  # bool: the caller samples this one itself
    num_generated: np.ndarray  # uint64: tokens sampled before
    max_new_tokens: np.ndarray  # int64: tokens that may still be sampled
    is_eos: np.ndarray  # bool [vocab]: tokens that end an answer
    ignore_eos: np.ndarray  # bool: answers that do not end there
    steps: int = 1


class SamplerOutput(NamedTuple):
    """Sampled tokens and their log-probabilities [steps, kept], of which the first `counts` are valid."""

    tokens: np.ndarray  # int64
    raw_logprobs: np.ndarray  # float32, of the model's distribution
    processed_logprobs: np.ndarray  # float32, of the one sampled from
    counts: np.ndarray  # int64 [kept]

    @classmethod
    def empty(cls, steps: int, rows: int) -> SamplerOutput:
        shape = (steps, rows)
        return cls(
            np.zeros(shape, np.int64),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            np.zeros(rows, np.int64),
        )
