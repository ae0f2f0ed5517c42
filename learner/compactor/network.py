"""The scorer in torch, for training; memory/compaction/scorer.py runs what `save` writes in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from burnish.memory.compaction import N_FEATURES, Scorer, fingerprint
from safetensors.torch import save_file
from torch import Tensor, nn

HIDDEN = 128


class Network(nn.Module):
    """rows [batch, n, N_FEATURES], mask [batch, n] -> logits [batch, n, 3]: drop, shorten, keep."""

    mean: Tensor
    std: Tensor

    def __init__(self, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(N_FEATURES))
        self.register_buffer("std", torch.ones(N_FEATURES))
        self.add_module("in", nn.Linear(N_FEATURES, hidden))
        self.add_module("set", nn.Linear(3 * hidden, hidden))
        self.add_module("out", nn.Linear(hidden, 3))

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        read, beside, out = (self.get_submodule(name) for name in ("in", "set", "out"))
        hidden = read((rows - self.mean) / self.std).relu() * mask[..., None]
        count = mask.sum(1).clamp(min=1)[:, None]
        summary = torch.cat([hidden.sum(1) / count, hidden.amax(1)], -1)
        wide = torch.cat([hidden, summary[:, None].expand(-1, rows.shape[1], -1)], -1)
        return out(beside(wide).relu())

    def fit_scale(self, rows: Sequence[np.ndarray]) -> None:
        """Set mean and standard deviation of the features, from a first batch of tasks."""
        every = torch.from_numpy(np.concatenate(rows))
        self.mean.copy_(every.mean(0))
        self.std.copy_(every.std(0).clamp(min=0.05))

    @classmethod
    def of(cls, scorer: Scorer) -> Network:
        """A network with the scorer's weights, to be trained further."""
        network = cls(len(scorer.weights["in.bias"]))
        network.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in scorer.weights.items()})
        return network

    def scorer(self, version: str = "trained") -> Scorer:
        return Scorer({k: v.numpy().copy() for k, v in self.state_dict().items()}, version)


def save(network: Network, path: Path) -> None:
    """Write a safetensors file that `Scorer.load` takes."""
    weights = {name: w.detach().contiguous().clone() for name, w in network.state_dict().items()}
    save_file(weights, path, metadata={"features": fingerprint(), "kind": "compactor"})


def pad(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Tasks of different sizes as one batch: rows [batch, n, N_FEATURES], mask [batch, n]."""
    longest = max(len(r) for r in rows)
    batch = torch.zeros(len(rows), longest, N_FEATURES)
    mask = torch.zeros(len(rows), longest)
    for i, r in enumerate(rows):
        batch[i, : len(r)] = torch.from_numpy(r)
        mask[i, : len(r)] = 1
    return batch, mask
