"""From a plan to logits: lays a step's tokens out flat and runs the model over the paged cache.

Per-row state lives in preallocated arrays indexed by row, so a decode step of many rows costs a
handful of array operations and no loop over rows.
"""

from __future__ import annotations

import numpy as np
import torch
from burnish.kernels.attention import PagedBatch, PagedGroup
from burnish.kernels.model import LoadedModel
from burnish.serving.engine.paged_kv import PagedKV
from burnish.serving.engine.scheduler import Chunk, Plan, Sequence


class Runner:
    """Runs plans. `token`, `position`, `drawn` and `slot` are the state of every running row."""

    def __init__(self, model: LoadedModel, kv: PagedKV, rows: int) -> None:
        self.model = model
        self.kv = kv
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
        rows = np.fromiter((s.row for s in plan.decode), dtype=np.int64, count=len(plan.decode))
        tokens, positions, slots = [self.token[rows]], [self.position[rows]], [self.slot[rows]]
        owners = [rows]
        for chunk in plan.prefill:
            sequence, count = chunk.sequence, chunk.end - chunk.start
            tokens.append(np.array(sequence.request.prompt_ids[chunk.start : chunk.end]))
            positions.append(np.arange(chunk.start, chunk.end))
            slots.append(np.full(count, sequence.slot))
            owners.append(np.full(count, sequence.row))
        flat_positions = np.concatenate(positions)
        write = self.kv.slots[np.concatenate(owners), flat_positions]
        groups = []
        if plan.decode:
            length = int(positions[0].max()) + 1
            groups.append(
                PagedGroup(
                    start=0,
                    positions=self._put(positions[0][:, None]),
                    read=self._put(self.kv.slots[rows, :length]),
                )
            )
        keep = list(range(len(rows)))
        drawing = list(plan.decode)
        if plan.prefill:
            groups.append(self._prefill_group(plan.prefill, len(rows)))
            end = len(rows)
            for chunk in plan.prefill:
                end += chunk.end - chunk.start
                if chunk.end == chunk.sequence.prompt_len:
                    keep.append(end - 1)
                    drawing.append(chunk.sequence)
        flat_slots = np.concatenate(slots)
        present = tuple({s.slot for s in plan.sequences})
        logits = self.model.step(
            self._put(np.concatenate(tokens)),
            self._put(flat_positions),
            PagedBatch(self.kv.pages, self._put(write), tuple(groups)),
            self._put(np.array(keep, dtype=np.int64)),
            present[0] if len(present) == 1 else self._put(flat_slots),
            present,
        )
        for chunk in plan.prefill:
            chunk.sequence.computed = chunk.end
        drawn_rows = np.fromiter((s.row for s in drawing), dtype=np.int64, count=len(drawing))
        return drawing, drawn_rows, logits

    def _prefill_group(self, chunks: list[Chunk], start: int) -> PagedGroup:
        """Chunks padded to a rectangle; padding repeats a chunk's last token and is dropped."""
        counts = np.array([chunk.end - chunk.start for chunk in chunks])
        offsets = start + np.concatenate([[0], counts[:-1].cumsum()])
        widest = counts.max()
        within = np.minimum(np.arange(widest), counts[:, None] - 1)
        rows = np.array([chunk.sequence.row for chunk in chunks])
        length = max(chunk.end for chunk in chunks)
        unpack = np.concatenate([np.arange(n) + at * widest for at, n in enumerate(counts)])
        return PagedGroup(
            start=start,
            positions=self._put(np.array([chunk.start for chunk in chunks])[:, None] + within),
            read=self._put(self.kv.slots[rows, :length]),
            pack=self._put(offsets[:, None] + within),
            unpack=self._put(unpack),
        )

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.model.device)
