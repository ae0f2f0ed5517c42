"""The native CPU library: compiled from native.cpp for this very machine, on first use.

The shared library is kept in the user's cache folder under a hash of source, compiler and CPU.
Without a compiler there is no library, the PyTorch reference serves, and the log says so.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from burnish.kernels.slots import ActiveSlots, SlotTable
from transformers.activations import ACT2FN
from transformers.integrations import moe

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-std=c++17")
# Native experts keep a transposed copy of their weights; larger models stay on the reference.
MOST_BYTES = 2 << 30


@functools.cache
def library() -> ctypes.CDLL | None:
    """The loaded library, compiled if need be; None where that is not possible."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        log.warning("no C++ compiler: attention and experts run on the slower PyTorch reference")
        return None
    try:
        found = ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or error
        log.warning("the native library does not build, PyTorch serves instead: %s", detail)
        return None
    found.burnish_experts.restype = found.burnish_attention.restype = None
    return found


def _compiled(compiler: str) -> Path:
    """Path of the shared library for this source, compiler and CPU."""
    digest = hashlib.sha256(SOURCE.read_bytes())
    for part in (*FLAGS, str(Path(compiler).resolve()), platform.machine(), _cpu()):
        digest.update(part.encode() + b"\0")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "burnish"
    path = folder / f"native-{digest.hexdigest()[:16]}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Several processes may start at once: each compiles aside, the last rename wins.
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            made = Path(aside) / path.name
            command = [compiler, *FLAGS, "-shared", "-fPIC", str(SOURCE), "-o", str(made)]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
            made.replace(path)
    return path


def _cpu() -> str:
    """What `-march=native` depends on: a cache folder may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _pointer(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(0 if tensor is None else tensor.data_ptr())


def _size(value: int) -> ctypes.c_int64:
    return ctypes.c_int64(value)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_pages: torch.Tensor,
    value_pages: torch.Tensor,
    table: torch.Tensor,
    row: torch.Tensor,
    position: torch.Tensor,
    scale: float,
    window: int,
) -> torch.Tensor:
    """`attention.paged_attention` on flattened tokens: query [T, heads, D] -> [T, heads, D]."""
    lib = library()
    assert lib is not None
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    out = torch.empty_like(query)
    lib.burnish_attention(
        *map(_pointer, (query, key, value, key_pages, value_pages, table)),
        _size(table.shape[1]),
        _pointer(row),
        _pointer(position),
        *map(_size, (*query.shape[:2], key.shape[1], query.shape[2])),
        ctypes.c_float(scale),
        _size(window),
        _pointer(out),
        _size(torch.get_num_threads()),
    )
    return out


class _Lora(ctypes.Structure):
    """One slot's adapter of one projection, as native.cpp declares it."""

    _fields_ = [
        ("down", ctypes.c_void_p),
        ("up", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("scale", ctypes.c_float),
    ]


def covers_experts(module: torch.nn.Module) -> bool:
    """Whether the library computes this module: an experts module, SwiGLU, float32, no biases."""
    m: Any = module
    if not hasattr(m, "is_transposed") or not hasattr(m, "gate_up_proj"):
        return False
    plain = m.has_gate and m.is_concatenated and not m.has_bias and not m.has_post_expert_norm
    swiglu = type(m)._apply_gate is moe._default_apply_gate and type(m.act_fn) is type(
        ACT2FN["silu"]
    )
    size = m.gate_up_proj.nbytes + m.down_proj.nbytes
    fits = size * m.config.num_hidden_layers <= MOST_BYTES
    return bool(plain and swiglu and fits and m.gate_up_proj.dtype == torch.float32)


class NativeExperts:
    """The native way of one experts module: weights as the kernel reads them, [E, in, out]."""

    def __init__(self, module: torch.nn.Module) -> None:
        m: Any = module
        weights = (m.gate_up_proj.detach(), m.down_proj.detach())
        if not m.is_transposed:
            weights = tuple(weight.transpose(1, 2) for weight in weights)
        self.gate_up, self.down = (weight.contiguous() for weight in weights)
        self.tables: dict[str, SlotTable] = {}  # filled when the module gets its first adapter
        self._lora: tuple[object, Any, list[torch.Tensor]] | None = None

    def _adapters(self, active: ActiveSlots) -> tuple[Any, list[torch.Tensor]]:
        """C array [present slots][2] of adapters, and the tensors its pointers lead to."""
        tables = [self.tables.get(name) for name in ("gate_up_proj", "down_proj")]
        key = (active.present, tuple(t.version for t in tables if t is not None))
        if self._lora is not None and self._lora[0] == key:
            return self._lora[1:]
        array, kept = (_Lora * (2 * len(active.present)))(), []
        for place, slot in enumerate(active.present):
            for which, table in enumerate(tables):
                pair = None if table is None else table.pair_of(slot)
                if pair is not None:
                    kept.extend(pair)
                    down, up = (tensor.data_ptr() for tensor in pair)
                    rank, scale = active.scales[slot]
                    array[place * 2 + which] = _Lora(down, up, rank, scale)
        if not any(table is not None and table.live() for table in tables):
            self._lora = (key, array, kept)
        return array, kept

    def __call__(
        self, hidden: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """hidden [T, H], routing [T, k] -> [T, H]."""
        lib = library()
        assert lib is not None
        hidden, chosen, weights = hidden.contiguous(), chosen.contiguous(), weights.contiguous()
        out = torch.empty_like(hidden)
        slots, index, array, kept = 0, None, None, None
        table = next(iter(self.tables.values()), None)
        if table is not None and table.active.present:
            slots, index = len(table.active.present), table.active.index
            array, kept = self._adapters(table.active)
        experts, width, double = self.gate_up.shape
        lib.burnish_experts(
            *map(_pointer, (hidden, chosen, weights, index)),
            *map(_size, (*chosen.shape, experts, width, double // 2)),
            _pointer(self.gate_up),
            _pointer(self.down),
            array,
            _size(slots),
            _pointer(out),
            _size(torch.get_num_threads()),
        )
        del kept  # the adapters' tensors live until here
        return out
