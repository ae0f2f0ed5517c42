"""The native CPU library: compiled from native/*.cpp for this machine on first use.

The shared library is kept in the user's cache folder under a hash of sources, compiler and CPU.
Without a compiler there is no library, the PyTorch reference serves, and the log says so; BURNISH_CPU
chooses the instruction set (target.py).
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

from burnish.kernels.cpu.target import TARGET, Target, cpu_lines

log = logging.getLogger(__name__)

SOURCES = Path(__file__).with_name("native")
FLAGS = ("-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-std=c++17")


# `Misfit` of native/bounds.h: what a step pointed outside of.
MISFITS = ("", "token", "row", "position", "adapter slot", "kept token", "cache slot")


def check(misfit: int) -> None:
    """IndexError unless a call into the library returned that its input fits."""
    if misfit:
        raise IndexError(f"a {MISFITS[misfit]} of the step is out of range")


@functools.cache
def library() -> ctypes.CDLL | None:
    """The loaded library, compiled if need be; None where that is not possible."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if TARGET is None:
        return None
    if compiler is None:
        log.warning("no C++ compiler: models run on the slower PyTorch reference")
        return None
    try:
        found = ctypes.CDLL(str(_compiled(compiler, TARGET)))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or error
        log.warning("the native library does not build, PyTorch serves instead: %s", detail)
        return None
    for function in (found.burnish_step, found.burnish_backward, found.burnish_activations):
        function.restype = ctypes.c_int64
    return found


def cache_folder() -> Path:
    """Where files are kept that can be made anew: the user's cache folder (XDG Base Directory)."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "burnish"


def _compiled(compiler: str, target: Target) -> Path:
    """Path of the shared library for this source, compiler, CPU and target."""
    flags = (*FLAGS, *target.flags, f"-DBURNISH_WIDTH={target.width}")
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.read_bytes())
    for part in (*flags, str(Path(compiler).resolve()), platform.machine(), processor()):
        digest.update(part.encode() + b"\0")
    folder = cache_folder()
    path = folder / f"native-{digest.hexdigest()[:16]}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Several processes may start at once: each compiles to a file of its own, then renames it.
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / path.name
            command = [
                compiler,
                *flags,
                "-shared",
                "-fPIC",
                *map(str, sorted(SOURCES.glob("*.cpp"))),
                "-o",
                str(made),
            ]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
            made.replace(path)
    return path


def processor() -> str:
    """What `-march=native` depends on: a cache folder may be shared by different machines."""
    wanted = ("model name", "flags", "Features", "CPU part")
    told = sorted({line for line in cpu_lines() if line.startswith(wanted)})
    return "\n".join(told) or platform.processor()
