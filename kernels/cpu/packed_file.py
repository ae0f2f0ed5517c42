"""Packed weights on disk: written once per model, then mapped by every process that runs it.

A mapped file makes a start independent of transformers' model classes and of packing, and its pages
are shared by all processes and may be dropped by the kernel. Layout: the header's length (8 bytes),
a JSON header, then the tensors, each on a 64-byte boundary. The header holds the library's structs
with, for each of their pointers, the tensor it leads to, and the model's outline.

Files lie in the user's cache folder under the hash of the weights, the config, the width they are packed
for and this code. Left out:
machines that share a cache folder but not a byte order.
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import json
import logging
import mmap
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from burnish.kernels.cpu.library import SOURCES, cache_folder
from burnish.kernels.cpu.structs import POINTER
from burnish.kernels.cpu.target import WIDTH
from torch import Tensor

log = logging.getLogger(__name__)

ALIGNMENT = 64  # bytes: one cache line, the widest vector
KEPT_FILES = 4
CODE = sorted([*SOURCES.iterdir(), *SOURCES.parent.glob("*.py")])


@dataclass(frozen=True)
class PackedFile:
    """A mapped file: `header` as it was written, and `structs` whose pointers lead into the mapping."""

    header: dict[str, Any]
    structs: dict[str, bytearray]
    mapping: Any  # alive as long as the structs are used


def path_of(sha256: str, config: str, dtype: str, weights: str) -> Path:
    """Where the packed weights of a model belong; the file need not exist."""
    digest = hashlib.sha256()
    for part in (sha256, config, dtype, weights, version("transformers"), str(WIDTH)):
        digest.update(part.encode() + b"\0")
    for file in CODE:
        if file.is_file():
            digest.update(file.read_bytes())
    return cache_folder() / f"weights-{digest.hexdigest()[:24]}.packed"


def write(
    path: Path,
    header: dict[str, Any],
    structs: dict[str, ctypes.Structure | ctypes.Array[Any]],
    tensors: Sequence[Tensor],
) -> None:
    """Write a file whole or not at all. OSError where the disk refuses or would be left too full."""
    offsets, end = [], 0
    for tensor in tensors:
        offsets.append(end)
        end += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < 2 * end:
        raise OSError(f"{path.parent} has no room for {end / 2**20:.0f} MiB of packed weights")
    place = {tensor.data_ptr(): at for tensor, at in zip(tensors, offsets, strict=True)}
    described = {}
    for name, struct in structs.items():
        raw, pointers = bytearray(struct), []
        for at in _pointer_offsets(type(struct)):
            to = int.from_bytes(raw[at : at + 8], "little")
            raw[at : at + 8] = bytes(8)
            if to in place:
                pointers.append([at, place[to]])
        described[name] = {"bytes": base64.b64encode(raw).decode(), "pointers": pointers}
    head = json.dumps({**header, "structs": described, "size": end}).encode()
    head += b" " * (-(len(head) + 8) % ALIGNMENT)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        draft = Path(scratch) / path.name
        with draft.open("wb") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            for tensor in tensors:
                file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
                file.write(b"\0" * (-tensor.nbytes % ALIGNMENT))
        draft.replace(path)
    _drop_oldest(path.parent)


def read(path: Path) -> PackedFile | None:
    """Map a file; None if there is none, or it is not whole."""
    try:
        with path.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        path.touch()  # the order in which files are dropped
        length = int.from_bytes(mapping[:8], "little")
        header = json.loads(mapping[8 : 8 + length])
        whole = len(mapping) == 8 + length + header["size"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        log.warning("%s cannot be read and is written anew: %s", path, error)
        return None
    if not whole:
        log.warning("%s is cut short and is written anew", path)
        return None
    if hasattr(mmap, "MADV_WILLNEED"):
        mapping.madvise(mmap.MADV_WILLNEED)
    start = np.frombuffer(mapping, np.uint8).ctypes.data + 8 + length
    structs = {}
    for name, described in header["structs"].items():
        raw = structs[name] = bytearray(base64.b64decode(described["bytes"]))
        for at, offset in described["pointers"]:
            raw[at : at + 8] = (start + offset).to_bytes(8, "little")
    return PackedFile(header, structs, mapping)


def _pointer_offsets(kind: Any, start: int = 0) -> Iterator[int]:
    """Offset of every pointer in a struct, or an array of structs."""
    if kind is POINTER:
        yield start
    elif issubclass(kind, ctypes.Array):
        items: Any = kind
        for number in range(items._length_):
            at = start + number * ctypes.sizeof(items._type_)
            yield from _pointer_offsets(items._type_, at)
    elif issubclass(kind, ctypes.Structure):
        for name, field in kind._fields_:  # type: ignore[misc]
            yield from _pointer_offsets(field, start + getattr(kind, name).offset)


def _drop_oldest(folder: Path) -> None:
    """Keep the files used last; a process that has mapped another keeps its pages."""
    files = sorted(folder.glob("weights-*.packed"), key=lambda file: file.stat().st_mtime)
    for file in files[:-KEPT_FILES]:
        file.unlink(missing_ok=True)
