"""Memory asked of the system: large pages for what is streamed, small ones for what fills slowly.

Weights are read from end to end in every step and stream faster from large pages. A cache is used
bit by bit: a large page has to be zeroed as a whole when its first token comes, and a step that
begins many of them stalls.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

LARGE_PAGE = 1 << 21  # bytes


def on_large_pages(tensor: Tensor) -> Tensor:
    """A copy for which the system is asked to take large pages; what is small stays as it is."""
    if tensor.nbytes < LARGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return tensor
    room = _mapped(tensor.nbytes, mmap.MADV_HUGEPAGE)
    return room.view(tensor.dtype).view(tensor.shape).copy_(tensor)


def zeroed(size: int) -> Tensor:
    """Zeroed bytes [size] that cost nothing until they are used."""
    return _mapped(size, getattr(mmap, "MADV_NOHUGEPAGE", None))


def _mapped(size: int, advice: int | None) -> Tensor:
    room = mmap.mmap(-1, max(size, 1), access=mmap.ACCESS_COPY)
    if advice is not None:
        room.madvise(advice)
    return torch.frombuffer(room, dtype=torch.uint8, count=size)
