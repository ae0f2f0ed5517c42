"""Clusters: which points lie together, by Lloyd's algorithm.

A few lines here, since the libraries that have it are some 60 MB in every worker.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 20  # at most


def clustered(points: Tensor, count: int) -> Tensor:
    """Labels [N] in [0, count) of points [N, d]. Begun at points far from one another (Gonzalez 1985), so that
    the same points always fall into the same clusters."""
    centres = _far_apart(points, count)
    labels = torch.cdist(points, centres).argmin(1)
    for _ in range(ROUNDS):
        sums = torch.zeros_like(centres).index_add_(0, labels, points)
        sizes = labels.bincount(minlength=count)[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
        before, labels = labels, torch.cdist(points, centres).argmin(1)
        if torch.equal(before, labels):
            break
    return labels


def _far_apart(points: Tensor, count: int) -> Tensor:
    """Rows [count, d] of points, each the farthest from their mean and from those before it."""
    distances = torch.cdist(points, points.mean(0, keepdim=True))[:, 0]
    chosen: list[int] = []
    for _ in range(count):
        chosen.append(int(distances.argmax()))
        distances = distances.minimum(torch.cdist(points, points[chosen[-1:]])[:, 0])
    return points[chosen]
