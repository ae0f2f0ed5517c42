"""Checkpoints of an update: one folder each, there entirely or not at all.

A folder holds the adapter in peft's format (what serving loads, byte for byte what is registered),
the optimiser's moments and the reward heads as safetensors, and a JSON page with the counters and
the random state. Nothing is pickled. Old folders are pruned by count.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from burnish.kernels.lora import AdapterWeights, load_adapter, save_adapter
from burnish.learner.database import LearnerError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file


class CheckpointError(LearnerError):
    """A checkpoint folder that cannot be used, with the reason."""


@dataclass(frozen=True)
class Progress:
    """Where an update stands. `high_water` is the newest event it counts as its own."""

    update: str
    policy: str
    parent: int
    base_sha256: str
    high_water: int
    step: int
    seconds: float
    done: bool
    code: str
    seed: int
    figures: dict[str, float] = field(default_factory=dict)
    rule: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    progress: Progress
    adapter: AdapterWeights
    optimiser: dict[str, torch.Tensor]
    heads: dict[str, torch.Tensor]

    @property
    def adapter_folder(self) -> Path:
        return self.folder / "adapter"


def save(
    folder: Path,
    progress: Progress,
    adapter: AdapterWeights,
    optimiser: Mapping[str, torch.Tensor],
    heads: Mapping[str, torch.Tensor],
    base_model: str,
) -> None:
    """Write beside, flush to disk, then rename: a reader sees the old folder or the new one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    save_adapter(adapter, draft / "adapter", base_model)
    save_file(_plain(optimiser), draft / "optimiser.safetensors")
    save_file(_plain(heads), draft / "heads.safetensors")
    (draft / "progress.json").write_text(json.dumps(asdict(progress), indent=1))
    for path in sorted(draft.rglob("*")):
        _sync(path)
    _sync(draft)
    if folder.exists():
        # Two renames leave a moment without the folder; `load` looks for the older one then.
        retired = folder.with_name(f".{folder.name}.retired")
        shutil.rmtree(retired, ignore_errors=True)
        folder.rename(retired)
    draft.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(folder.with_name(f".{folder.name}.retired"), ignore_errors=True)


def load(folder: Path) -> Checkpoint | None:
    """The checkpoint at `folder`, or None when there is none. Raises CheckpointError."""
    if not folder.exists():
        folder = folder.with_name(f".{folder.name}.retired")
    if not folder.exists():
        return None
    try:
        progress = Progress(**json.loads((folder / "progress.json").read_text()))
        return Checkpoint(
            folder=folder,
            progress=progress,
            adapter=load_adapter(folder / "adapter"),
            optimiser=load_file(folder / "optimiser.safetensors"),
            heads=load_file(folder / "heads.safetensors"),
        )
    except (OSError, TypeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: {error}") from error


def prune(folder: Path, keep: int, spare: frozenset[str]) -> None:
    """Remove all but the newest `keep` checkpoints, and never those named in `spare`."""
    if not folder.exists():
        return
    complete = [path for path in folder.iterdir() if (path / "progress.json").exists()]
    complete.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in complete[keep:]:
        if path.name not in spare:
            shutil.rmtree(path, ignore_errors=True)


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
