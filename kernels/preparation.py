"""What a model needs once per machine, done in a process of its own: packing its weights, timing its ways.

Both take several times the memory that serving takes, and a process seldom gives back what it has used:
this one ends. What it found lies in the cache folder (packed_file.py, choice.py), where the process
that serves reads it, and never imports transformers' model classes. If it fails, that process
does the work itself, and tells what is wrong.

That process is prepare_model.py.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from burnish.kernels import choice
from burnish.kernels.choice import Choice, NotTimed, Shape, Times, Work
from burnish.kernels.cpu import packed_file
from burnish.kernels.cpu.support import config_unsupported_reason
from burnish.kernels.folder import ModelFolder
from burnish.kernels.formats import Weights

log = logging.getLogger(__name__)

PROCESS = "burnish.kernels.prepare_model"
WORTH_BYTES = 64 << 20  # of weights: smaller models are prepared before a process has started


def prepare(folder: ModelFolder, dtype: str, weights: Weights, asked: tuple[str, Weights]) -> None:
    """Pack and time a model that is worth it, unless that is done. `dtype` and `weights` are what was
    made of those that `load_model` was `asked` for."""
    if folder.weight_bytes < WORTH_BYTES or is_prepared(folder, dtype, weights):
        return
    log.info("preparing %s for this processor, once", folder.path)
    command = [sys.executable, "-m", PROCESS, str(folder.path), *asked]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        told = done.stderr.strip().splitlines()[-1:]
        log.warning("it is prepared in this process: that of its own failed: %s", " ".join(told))


def is_prepared(folder: ModelFolder, dtype: str, weights: Weights) -> bool:
    """Whether a start has nothing left to do but to map weights, or serves in PyTorch."""
    if config_unsupported_reason(folder.config) is not None:
        return True
    packed = packed_file.read(packed_path(folder, dtype, weights))
    if packed is not None:
        stored, form = packed.header["dtype"], packed.header["format"]
        return weights != "auto" or _kept(folder, getattr(torch, stored), form) is not None
    stored = torch.float32 if dtype == "float32" else folder.config.dtype
    found = [_kept(folder, stored, form) for form in ("bfloat16", "float32")]
    return any(kept is not None and not kept.any_native for kept in found)


def packed_path(folder: ModelFolder, dtype: str, weights: Weights) -> Path:
    """Where the packed weights of a folder belong."""
    return packed_file.path_of(folder.sha256, folder.config.to_json_string(), dtype, weights)


def not_here(_: Shape) -> Mapping[Work, Times]:
    """The timer of a process that leaves timing to another one."""
    raise NotTimed("the process that was to time it could not; the next start tries again")


def _kept(folder: ModelFolder, dtype: torch.dtype, form: str) -> Choice | None:
    return choice.kept(Shape(folder.config, dtype, form))
