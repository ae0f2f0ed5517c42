"""From a plan to logits: lays a step's tokens out flat and runs the model over the paged cache.

Per-row state lives in preallocated arrays indexed by row, so a decode step of many rows costs a
handful of array operations and no loop over rows.
"""

from __future__ import annotations

import numpy as np
import torch
from burnish.kernels.attention import PagedBatch
from burnish.kernels.model import LoadedModel
from burnish.serving.engine.paged_kv import PagedKV
from burnish.serving.engine.scheduler import Plan, Sequence


class Runner:
    """Runs plans. `token`, `position`, `drawn` and `slot` are the state of every running row."""

    def __init__(self, model: LoadedModel, kv: PagedKV, rows: int) -> None:
        self.model = model
        self.kv = kv
        self._table = torch.from_numpy(kv.slots).to(model.device)
        self.token = np.zeros(rows, dtype=np.int64)  # last drawn, input of the next decode
        self.position = np.zeros(rows, dtype=np.int64)  # where that token goes
        self.drawn = np.zeros(rows, dtype=np.int64)  # how many were drawn
        self.slot = np.zeros(rows, dtype=np.int64)  # adapter slot

    def admit(self, sequence: Sequence) -> None:
        self.position[sequence.row] = sequence.prompt_len
        self.drawn[sequence.row] = 0
        self.slot[sequence.row] = sequence.slot

    def advance(self, rows: np.ndarray, tokens: list[int]) -> None:
        """Record the tokens drawn for `rows`. A row's first token comes from its prompt's end."""
        self.token[rows] = tokens
        self.position[rows] += self.drawn[rows] > 0
        self.drawn[rows] += 1

    def run(self, plan: Plan) -> tuple[list[Sequence], np.ndarray, torch.Tensor]:
        """Compute one step.

        Returns the sequences that draw a token now, their rows [R], and logits [R, V].
        """
        single = np.fromiter((s.row for s in plan.decode), dtype=np.int64, count=len(plan.decode))
        chunks = plan.prefill
        rows = np.concatenate([single, np.array([c.sequence.row for c in chunks], np.int64)])
        starts = np.concatenate(
            [self.position[single], np.array([c.start for c in chunks], np.int64)]
        )
        counts = np.ones(len(rows), dtype=np.int64)
        counts[len(single) :] = [c.end - c.start for c in chunks]
        prompts = [c.sequence.request.prompt_ids[c.start : c.end] for c in chunks]
        tokens = np.concatenate([self.token[single], *(np.array(p, np.int64) for p in prompts)])
        drawing = [*plan.decode, *(c.sequence for c in chunks if c.end == c.sequence.prompt_len)]
        draws = [True] * len(single) + [c.end == c.sequence.prompt_len for c in chunks]
        slots = self.slot[rows]
        present = tuple(set(slots.tolist()))
        batch = PagedBatch(
            self.kv.pages,
            self._table,
            *(self._put(array) for array in (rows, starts, counts)),
            native=self.model.native,
        )
        logits = self.model.step(
            self._put(tokens),
            batch,
            self._put((counts.cumsum() - 1)[draws]),
            present[0] if len(present) == 1 else self._put(slots.repeat(counts)),
            present,
        )
        for chunk in chunks:
            chunk.sequence.computed = chunk.end
        return drawing, rows[draws], logits

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.model.device)
