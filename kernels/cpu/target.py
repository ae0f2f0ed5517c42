"""The instruction set that the native library is compiled for, and how many floats its vectors hold.

The best of this processor's, unless BURNISH_CPU names another (`pytorch`: none, the reference serves).
Weights are packed for one width, so it is known before the library is. `amx` is avx512 with bfloat16
weights multiplied in tiles; it has been compiled and, in emulation, tested, but never run on a processor
that has them, so it serves only where it is named. Left out: SVE.
"""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """One instruction set: its name, the floats of one of its registers, and the compiler's flags."""

    name: str
    width: int
    flags: tuple[str, ...]


TARGETS = {
    "amx": Target("amx", 16, ("-march=native", "-DBURNISH_TILES=1")),
    "avx512": Target("avx512", 16, ("-march=native",)),
    "avx2": Target("avx2", 8, ("-march=native", "-mno-avx512f")),
    "sse": Target("sse", 4, ("-march=native", "-mno-avx")),
    "neon": Target("neon", 4, ("-march=native",)),
}
PYTORCH = "pytorch"
# Tiles in plain C++, for tests: never chosen, and slow.
EMULATED = "amx-emulated"
# Linux hands the state of tiles out on request, as it is large (arch_prctl, XFEATURE_XTILEDATA).
ARCH_PRCTL, REQUEST_STATE, TILE_DATA = 158, 0x1023, 18


def cpu_lines() -> list[str]:
    """What the kernel tells of the processors; empty where it tells nothing."""
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def available() -> list[str]:
    """The targets that run here, first the one that serves unasked."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ["neon"]
    flags = {flag for line in cpu_lines() if line.startswith("flags") for flag in line.split()}
    wide = ["avx512"] if "avx512f" in flags else []
    if wide and {"amx_tile", "amx_bf16"} <= flags and _may_use_tiles():
        wide.append("amx")
    return [*wide, *(["avx2"] if {"avx2", "fma"} <= flags else []), "sse"]


@cache
def _may_use_tiles() -> bool:
    """Whether the kernel lets this process use them; it asks once, for all threads."""
    return ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST_STATE, TILE_DATA) == 0


def target_of(chosen: str | None) -> Target | None:
    """The target of this name, or the first without one; None: PyTorch. ValueError if it cannot run."""
    names = available()
    if chosen == PYTORCH:
        return None
    if chosen == EMULATED:
        best = TARGETS[names[0]]
        return Target(EMULATED, best.width, (*best.flags, "-DBURNISH_TILES=2"))
    if chosen and chosen not in names:
        known = ", ".join([*names, PYTORCH])
        raise ValueError(f"BURNISH_CPU={chosen} cannot run on this processor; it may be {known}")
    return TARGETS[chosen or names[0]]


TARGET = target_of(os.environ.get("BURNISH_CPU"))
WIDTH = TARGET.width if TARGET else TARGETS[available()[0]].width
