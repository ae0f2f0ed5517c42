"""A column of numbers, or of rows of them, that grows at its end; a numpy array at any moment."""

from typing import Any

import numpy as np

SMALLEST = 64


class Column:
    """Appending costs the same at any length; `values` is a view that later appends leave as it is."""

    def __init__(self, kind: Any, width: tuple[int, ...] = ()) -> None:
        self._buffer = np.empty((SMALLEST, *width), kind)
        self._length = 0

    @property
    def values(self) -> np.ndarray:
        return self._buffer[: self._length]

    def append(self, value: Any) -> None:
        self._reserve(1)
        self._buffer[self._length] = value
        self._length += 1

    def extend(self, values: np.ndarray) -> None:
        self._reserve(len(values))
        self._buffer[self._length : self._length + len(values)] = values
        self._length += len(values)

    def __len__(self) -> int:
        return self._length

    def _reserve(self, more: int) -> None:
        needed = self._length + more
        if needed > len(self._buffer):
            size = max(needed, 2 * len(self._buffer))
            grown = np.empty((size, *self._buffer.shape[1:]), self._buffer.dtype)
            grown[: self._length] = self.values
            self._buffer = grown
