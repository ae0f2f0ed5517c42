"""Text embeddings: the hidden states of the base model's middle layer, averaged over the text.

The middle layers represent a text's topic best. Long texts are read in windows, and of very long
ones only the beginning and the end, to bound the time taken from running requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from burnish.kernels.model import LoadedModel

WINDOW = 256  # tokens read together
MOST = 1024  # tokens of one text
AT_ONCE = 512  # tokens read between two steps of the engine


def batches(sequences: Sequence[Sequence[int]]) -> Iterator[list[tuple[int, Sequence[int]]]]:
    """(text, window) pairs, `AT_ONCE` tokens at a time or one window."""
    batch: list[tuple[int, Sequence[int]]] = []
    size = 0
    for index, tokens in enumerate(sequences):
        if len(tokens) > MOST:
            tokens = [*tokens[: MOST // 2], *tokens[-MOST // 2 :]]
        for start in range(0, len(tokens), WINDOW):
            window = tokens[start : start + WINDOW]
            if batch and size + len(window) > AT_ONCE:
                yield batch
                batch, size = [], 0
            batch.append((index, window))
            size += len(window)
    if batch:
        yield batch


def add_states(
    model: LoadedModel, batch: Sequence[tuple[int, Sequence[int]]], sums: np.ndarray
) -> None:
    """Add each window's states to its text's row of `sums` [n, H]."""
    layers = max(1, model.config.num_hidden_layers // 2)
    states = model.states([window for _, window in batch], layers)
    for (index, _), found in zip(batch, states, strict=True):
        sums[index] += found.sum(0).numpy()
