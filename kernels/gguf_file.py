"""GGUF files, llama.cpp's format: their metadata, and their tensors, mapped and read one at a time.

Source: the GGUF specification (ggml/docs/gguf.md), versions 2 and 3, little-endian. The `gguf` package
knows the types of tensors and dequantises them; its reader is passed by, because it makes an array of
every token in a vocabulary, which takes seconds at each start. Left out: models split over files.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as GgmlType
from torch import Tensor

# Metadata types of a fixed size, as struct knows them.
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
STRING, ARRAY = 8, 9
ALIGNMENT = 32  # bytes, where the metadata names no other
PLAIN = {
    GgmlType.F32: torch.float32,
    GgmlType.F16: torch.float16,
    GgmlType.BF16: torch.bfloat16,
}


@dataclass(frozen=True)
class GgufTensor:
    """A tensor in a mapped file."""

    shape: tuple[int, ...]  # outermost dimension first, as in torch
    type: GgmlType
    data: np.ndarray  # bytes, [..., bytes of a row]

    def read(self) -> Tensor:
        """Its numbers in memory of their own: in float32, or dequantised in bfloat16."""
        numbers = gguf.quants.dequantize(self.data, self.type)
        found = torch.from_numpy(np.require(numbers, np.float32, "W")).reshape(self.shape)
        return found if self.type in PLAIN else found.bfloat16()


@dataclass(frozen=True)
class GgufFile:
    """What a file holds. Made by `read_gguf`."""

    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]

    @property
    def parameters(self) -> int:
        return sum(prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def dtype(self) -> torch.dtype | None:
        """The type of most of its weights; None if some are quantised."""
        weights: Counter[GgmlType] = Counter()
        for tensor in self.tensors.values():
            weights[tensor.type] += prod(tensor.shape)
        if weights.keys() - PLAIN.keys():
            return None
        return PLAIN[max(weights, key=weights.__getitem__)]


def read_gguf(path: Path) -> GgufFile:
    """Read the header and map the tensors. ValueError with the reason if the file is not whole."""
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ValueError("it does not begin like a GGUF file")
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    cursor = _Cursor(mapped, 4)
    try:
        version = cursor.number("I")
        if version not in (2, 3):
            raise ValueError(f"GGUF version {version} is unknown here; convert the model anew")
        count, pairs = cursor.numbers("Q", 2)
        metadata = {}
        for _ in range(pairs):
            key = cursor.string()
            metadata[key] = cursor.value(cursor.number("I"))
        if (parts := metadata.get("split.count", 1)) > 1:
            raise ValueError(
                f"it is one of {parts} parts of a model: merge them with `llama-gguf-split --merge`"
            )
        described = [_describe(cursor) for _ in range(count)]
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"it is damaged or cut short: {error}") from error
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"it is damaged: its tensors lie on multiples of {alignment!r}")
    start = -(-cursor.at // alignment) * alignment
    place = _place(np.frombuffer(mapped, np.uint8)[start:])
    return GgufFile(metadata, {one[0]: place(*one) for one in described})


class _Cursor:
    """Reads one value after the other. struct.error where the buffer ends."""

    def __init__(self, buffer: mmap.mmap, at: int) -> None:
        self.buffer, self.at = buffer, at

    def numbers(self, form: str, count: int) -> tuple[Any, ...]:
        layout = f"<{count}{form}"
        found = struct.unpack_from(layout, self.buffer, self.at)
        self.at += struct.calcsize(layout)
        return found

    def number(self, form: str) -> Any:
        return self.numbers(form, 1)[0]

    def string(self) -> str:
        (text,) = self.numbers("s", self.number("Q"))
        return text.decode()

    def value(self, kind: int) -> Any:
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            raise struct.error(f"there is no metadata of type {kind}")
        kind, count = self.number("I"), self.number("Q")
        if kind in SCALARS:
            return list(self.numbers(SCALARS[kind], count))
        if kind != STRING:
            raise struct.error(f"there is no array of type {kind}")
        return [self.string() for _ in range(count)]


def _describe(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape, type and offset of the next tensor in the table."""
    name = cursor.string()
    shape = cursor.numbers("Q", cursor.number("I"))
    return name, shape[::-1], cursor.number("I"), cursor.number("Q")


def _place(data: np.ndarray) -> Callable[[str, tuple[int, ...], int, int], GgufTensor]:
    """Makes tensors of `data`, the bytes behind the header."""

    def place(name: str, shape: tuple[int, ...], kind: int, offset: int) -> GgufTensor:
        known = _readable(name, kind)
        numbers, size = gguf.GGML_QUANT_SIZES[known]
        if not shape or shape[-1] % numbers:
            raise ValueError(f"{name} has shape {shape}, which {known.name} cannot have")
        width = shape[-1] // numbers * size
        end = offset + prod(shape[:-1]) * width
        if end > len(data):
            raise ValueError(f"it is cut short: {name} ends {end - len(data)} bytes behind it")
        return GgufTensor(shape, known, data[offset:end].reshape(*shape[:-1], width))

    return place


def _readable(name: str, kind: int) -> GgmlType:
    try:
        known = GgmlType(kind)
        # A type that it knows by name alone is refused for a single block too.
        gguf.quants.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[known][1]), np.uint8), known)
    except (ValueError, NotImplementedError) as error:
        called = GgmlType(kind).name if kind in set(GgmlType) else kind
        raise ValueError(
            f"{name} is of type {called}, which cannot be read; take the model in Q8_0, Q6_K, Q4_K,"
            " Q4_0 or BF16"
        ) from error
    return known
