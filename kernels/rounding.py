"""Weights rounded to int8 and int4: whole numbers and their scales, the same for every backend.

Left out: how the numbers are laid out (cpu/packing.py, cuda/grouped.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 32  # inputs per int4 scale
# Largest weights of a group, as parts of the range -8 .. 7, that are tried for its scale: with some of them
# the few largest weights are cut, and all others are nearer.
TRIED = (1.0, 0.9, 0.8, 1.1, -1.0)
SMALLEST = 1e-12


def to_int8(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Whole numbers -127 .. 127, and a scale for each line along `dim` (which stays, of size 1)."""
    scale = weight.abs().amax(dim, keepdim=True).clamp_min(SMALLEST) / 127
    return (weight / scale).round().to(torch.int8), scale


def to_int4(groups: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Whole numbers -8 .. 7, and a scale for each group along `dim` (which stays, of size 1): of the
    scales tried, each the one that fits its numbers best, the one with the least squared error."""
    place = groups.abs().argmax(dim, keepdim=True)
    largest = groups.gather(dim, place)
    largest = torch.where(largest.abs() < SMALLEST, SMALLEST, largest)
    chosen = torch.zeros_like(groups, dtype=torch.int8), torch.zeros_like(largest)
    least = torch.full_like(largest, torch.inf)
    for part in TRIED:
        whole = (groups / (largest * part / -8)).round().clamp(-8, 7)
        norm = whole.square().sum(dim, keepdim=True).clamp_min(1)
        scale = (whole * groups).sum(dim, keepdim=True) / norm  # the best in least squares
        error = (whole * scale - groups).square().sum(dim, keepdim=True)
        better = error < least
        chosen = (
            torch.where(better, whole.to(torch.int8), chosen[0]),
            torch.where(better, scale, chosen[1]),
        )
        least = torch.where(better, error, least)
    return chosen
