"""The native library against PyTorch, and which was chosen: decode steps of 1 to 64 rows, training steps.

The chosen way is what `load_model` takes by itself; both ways run in the type that it chooses for the
model, as serving and the learner run it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from burnish.kernels.cpu.target import PYTORCH, TARGET
from burnish.kernels.loading import load_model
from burnish.kernels.lora import LoraSpec, init_adapter
from burnish.kernels.lora import default_targets as targets_of
from burnish.kernels.model import LoadedModel
from burnish.kernels.verify import PagedDecoder
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.trainer import PolicyTrainer, TrainerConfig
from burnish.ops.bench.lib.speed.ours import LORA_RANK

ROWS = (1, 2, 4, 8, 16, 32, 64)
PROMPT, STEPS = 16, 12  # tokens of each row before the steps that are timed; steps at most
STEP_SECONDS = 1.0  # after which no further step is timed
TRAINING_STEPS = 2
QUESTION, ANSWER = 30, 30  # tokens of a rollout
Timed = TypeVar("Timed")
CONFIG = TrainerConfig(learning_rate=1e-4, clip_norm=1.0, kl_weight=0.1, kl_budget=1.0)


def compare_steps(folder: Path) -> dict[str, Any]:
    """A decode step by rows, both ways."""
    chosen = "pytorch" if load_model(folder).native is None else "native"
    native, pytorch = _both(folder, lambda model: {n: _step_seconds(model, n) for n in ROWS})
    return {
        str(n): compared(chosen, None if native is None else native[n], pytorch[n]) for n in ROWS
    }


def compare_training(folder: Path, answers: int) -> dict[str, Any]:
    """One of the learner's training steps over `answers` rollouts, both ways."""
    chosen = "pytorch" if load_model(folder).training is None else "native"
    native, pytorch = _both(folder, lambda model: _training_seconds(model, answers))
    return {"answers": answers, **compared(chosen, native, pytorch)}


def compared(chosen: str, native: float | None, pytorch: float) -> dict[str, Any]:
    """Milliseconds of both ways, and how many times faster the chosen one is than PyTorch and than the
    other. A model that the library does not cover has no native way."""
    taken, other = (pytorch, native) if chosen == "pytorch" else (native, pytorch)
    taken, other = taken or pytorch, other or pytorch
    return {
        "chosen": chosen,
        "native_ms": native and round(1e3 * native, 3),
        "pytorch_ms": round(1e3 * pytorch, 3),
        "times_pytorch": round(pytorch / taken, 3),
        "times_other": round(other / taken, 3),
    }


def _both(folder: Path, timed: Callable[[LoadedModel], Timed]) -> tuple[Timed | None, Timed]:
    """What both ways take, one after the other."""
    native = _native(folder)
    found = None if native is None else timed(native)
    del native
    return found, timed(load_model(folder, native=False))


def _native(folder: Path) -> LoadedModel | None:
    """On the native library, chosen or not; None if it does not cover the model."""
    before = os.environ.get("BURNISH_CPU")
    os.environ["BURNISH_CPU"] = TARGET.name if TARGET else PYTORCH
    try:
        model = load_model(folder)
    finally:
        if before is None:
            del os.environ["BURNISH_CPU"]
        else:
            os.environ["BURNISH_CPU"] = before
    return None if model.native is None else model


def _step_seconds(model: LoadedModel, rows: int) -> float:
    """The fastest of some steps that decode one token for each row."""
    decoder = PagedDecoder(model, rows, PROMPT + STEPS + 1)
    drawn = torch.from_numpy(
        np.random.default_rng(rows).integers(3, model.config.vocab_size, (rows, PROMPT))
    )
    decoder.step(drawn)
    decoder.step(drawn[:, :1])
    took: list[float] = []
    while len(took) < STEPS and sum(took) < STEP_SECONDS:
        began = time.perf_counter()
        decoder.step(drawn[:, :1])
        took.append(time.perf_counter() - began)
    return min(took)


def _training_seconds(model: LoadedModel, answers: int) -> float:
    """The faster of two steps; the first also packs what training needs, and is not counted."""
    spec = LoraSpec(LORA_RANK, 2 * LORA_RANK, targets_of(model.outline))
    trainer = PolicyTrainer(model, init_adapter(model.outline, spec, 0), CONFIG)
    rng = np.random.default_rng(0)
    rollouts = [
        Rollout(
            prompt_ids=tuple(rng.integers(3, model.config.vocab_size, QUESTION).tolist()),
            token_ids=tuple(rng.integers(3, model.config.vocab_size, ANSWER).tolist()),
            logprobs=(-1.0,) * ANSWER,
            advantage=float(rng.choice([-1.0, 1.0])),
        )
        for _ in range(answers)
    ]
    trainer.step(rollouts[:1])
    took = []
    for _ in range(TRAINING_STEPS):
        began = time.perf_counter()
        trainer.step(rollouts)
        took.append(time.perf_counter() - began)
    return min(took)
