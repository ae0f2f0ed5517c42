"""Checkpoints of an update: one folder each, complete or absent.

A folder holds the adapter in peft's format (what serving loads, byte for byte what is registered),
the optimiser's state (optimiser.py) and the update rule's tensors as safetensors, and a JSON file with
the training progress and the rest of the rule's state. Nothing is pickled. Old folders are pruned by
count. Left out: a random state; random numbers follow from the seed and the step's number.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from burnish.kernels.lora import AdapterWeights, load_adapter, save_adapter
from burnish.learner.database import LearnerError
from burnish.learner.training.optimiser import read_state
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

# The names inside a folder, as older versions wrote them too.
PROGRESS, RULE = "progress.json", "heads.safetensors"


class CheckpointError(LearnerError):
    """A checkpoint folder that cannot be read, with the reason."""


@dataclass(frozen=True)
class TrainingProgress:
    """How far the training of an update has come.

    `update` is the attempt's id, `parent` a version, `high_water` the number of the newest judgement
    the update counts as its own, `seconds` the time trained so far, `since_base` the
    updates since one was rebuilt from the base (0: this one was), `generation` which update it is along the line
    of its parents, `figures` means over the steps.
    """

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
    since_base: int = 1
    generation: int = 1
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """`rule_state` is the update rule's state dict: tensors and JSON values by name."""

    folder: Path
    progress: TrainingProgress
    adapter: AdapterWeights
    optimiser: dict[str, Tensor]
    rule_state: dict[str, Any]

    @property
    def adapter_folder(self) -> Path:
        return self.folder / "adapter"


def save(
    folder: Path,
    progress: TrainingProgress,
    adapter: AdapterWeights,
    save_optimiser: Callable[[Path], None],
    rule_state: Mapping[str, Any],
    base_model: str,
) -> None:
    """Write to a temporary folder, fsync, then rename: a reader sees the old state or the new one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    save_adapter(adapter, draft / "adapter", base_model)
    tensors = {name: value for name, value in rule_state.items() if isinstance(value, Tensor)}
    rest = {name: value for name, value in rule_state.items() if name not in tensors}
    save_optimiser(draft)
    save_file({n: t.detach().contiguous() for n, t in tensors.items()}, draft / RULE)
    (draft / PROGRESS).write_text(json.dumps({**asdict(progress), "rule": rest}, indent=1))
    for path in sorted(draft.rglob("*")):
        _sync(path)
    _sync(draft)
    if folder.exists():
        # Between the two renames `folder` is missing; `load` then reads the retired one.
        retired = _retired(folder)
        shutil.rmtree(retired, ignore_errors=True)
        folder.rename(retired)
    draft.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(_retired(folder), ignore_errors=True)


def load(folder: Path) -> Checkpoint | None:
    """The checkpoint at `folder`, or None when there is none. Raises CheckpointError."""
    if not folder.exists():
        folder = _retired(folder)
    if not folder.exists():
        return None
    try:
        fields = json.loads((folder / PROGRESS).read_text())
        rest = fields.pop("rule", {})
        return Checkpoint(
            folder=folder,
            progress=TrainingProgress(**fields),
            adapter=load_adapter(folder / "adapter"),
            optimiser=read_state(folder),
            rule_state={**load_file(folder / RULE), **rest},
        )
    except (OSError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: {error}") from error


def prune(folder: Path, keep: int, spare: frozenset[str]) -> None:
    """Remove all but the newest `keep` checkpoints in `folder`, except those named in `spare`."""
    if not folder.exists():
        return
    complete = [path for path in folder.iterdir() if (path / PROGRESS).exists()]
    complete.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in complete[keep:]:
        if path.name not in spare:
            shutil.rmtree(path, ignore_errors=True)


def _retired(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.retired")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
