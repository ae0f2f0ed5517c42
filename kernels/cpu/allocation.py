"""Memory allocation: huge pages for weights, small ones for caches.

Weights are read from end to end in every step and stream faster from huge pages. A cache fills
gradually: a huge page is zeroed as a whole at its first token, and a step that touches many new ones
stalls. What was freed goes back to the system on request.
"""

from __future__ import annotations

import ctypes
import gc
import mmap

import torch
from torch import Tensor

HUGE_PAGE = 1 << 21  # bytes


def in_huge_pages(tensor: Tensor) -> Tensor:
    """A copy in memory for which huge pages are requested; a small tensor is returned as it is."""
    if tensor.nbytes < HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return tensor
    buffer = _mapped(tensor.nbytes, mmap.MADV_HUGEPAGE)
    return buffer.view(tensor.dtype).view(tensor.shape).copy_(tensor)


def allocate_zeroed(size: int) -> Tensor:
    """Zeroed bytes [size] that take no memory until they are written."""
    return _mapped(size, getattr(mmap, "MADV_NOHUGEPAGE", None))


def release_freed() -> None:
    """Give back what glibc keeps of freed memory: of a model that was loaded to be packed, most of it."""
    gc.collect()
    trim()


def trim() -> None:
    """Give back what glibc keeps of memory that is free already."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def _mapped(size: int, advice: int | None) -> Tensor:
    buffer = mmap.mmap(-1, max(size, 1), access=mmap.ACCESS_COPY)
    if advice is not None:
        buffer.madvise(advice)
    return torch.frombuffer(buffer, dtype=torch.uint8, count=size)
