"""Hidden states of several answers to one prompt: the prompt is computed once, as the engine does.

In pieces, so that whoever else uses the model gets it in between. Left out: sharing where PyTorch
computes; there each answer is read with its prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from burnish.kernels.cpu.target import WIDTH
from burnish.kernels.forward_batch import ForwardBatch
from burnish.kernels.model import LoadedModel


def answer_states(
    model: LoadedModel,
    prompt: Sequence[int],
    answers: Sequence[Sequence[int]],
    layers: int,
    most: int,
) -> Iterator[torch.Tensor]:
    """The hidden states of the prompt's tokens, then of each answer's, after that many layers of the base:
    [n, H] at a time, of at most `most` tokens where the native library reads."""
    if model.reader is None:
        for at, answer in enumerate(answers):
            [states] = model.states([[*prompt, *answer]], layers)
            yield states if at == 0 else states[len(prompt) :]
        return
    # Whole pages are shared; what is left of the prompt is computed with each answer, and told once.
    shared = len(prompt) // WIDTH * WIDTH
    rows = [[*prompt[shared:], *answer] for answer in answers]
    reach = -(-max(map(len, rows)) // WIDTH) * WIDTH
    table = np.tile(np.arange(shared + reach, dtype=np.int64), (len(rows), 1))
    table[:, shared:] += np.arange(len(rows))[:, None] * reach
    pages = model.reader.new_pages(shared + len(rows) * reach)
    for step in (*_steps([prompt[:shared]], 0, most), *_steps(rows, shared, most)):
        repeated = (step.position < len(prompt)) & (step.row > 0)
        yield model.read_step(step, table, pages, layers)[torch.from_numpy(~repeated)]


def _steps(rows: Sequence[Sequence[int]], start: int, most: int) -> Iterator[ForwardBatch]:
    """The tokens of all rows, one row after the other, at most `most` in a step. Rows begin at `start`."""
    row = np.repeat(np.arange(len(rows)), [len(tokens) for tokens in rows])
    tokens = np.array([token for tokens in rows for token in tokens], np.int64)
    position = start + np.concatenate([np.arange(len(tokens)) for tokens in rows])
    for begin in range(0, len(tokens), most):
        piece = slice(begin, begin + most)
        present, firsts, counts = np.unique(row[piece], return_index=True, return_counts=True)
        yield ForwardBatch(
            tokens=tokens[piece],
            rows=present,
            starts=position[piece][firsts],
            counts=counts,
            slots=np.zeros_like(present),
            keep=np.empty(0, np.int64),
        )
