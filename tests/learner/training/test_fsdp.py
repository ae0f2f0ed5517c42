"""Ranks over gloo take the steps that one process takes, hold a share each, and outlive one another."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, LoraSpec, init_adapter, load_adapter
from burnish.learner.training.protocol import StepReport
from burnish.learner.training.trainer import PolicyTrainer
from burnish.serving.engine import LocalEngine
from safetensors.torch import load_file
from torch import Tensor

from tests.learner.training.sharded_case import CONFIG, SPEC, STEPS, batch_of

ROOT = Path(__file__).parents[3]
TOLERANCE = 1e-4  # relative, of the norm of the whole update


@dataclass(frozen=True)
class Single:
    start: AdapterWeights
    adapter: AdapterWeights
    optimiser: dict[str, Tensor]
    reports: list[StepReport]


@pytest.fixture(scope="module")
def single(tiny_model: Path) -> Single:
    """The same steps in one process."""
    model = load_model(tiny_model, device="cpu", native=False)
    start = init_adapter(model.model, LoraSpec(*SPEC), seed=0)
    trainer = PolicyTrainer(model, LocalEngine(model, max_running=1), start, CONFIG)
    reports = [trainer.step(batch_of(step)) for step in range(STEPS)]
    made = Single(start, trainer.adapter.detached(), trainer.optimiser_state(), reports)
    trainer.close()
    return made


def run_ranks(ranks: int, model: Path, folder: Path, *, dies_at: int) -> list[dict[str, Any]]:
    """Train under torchrun while the last rank dies once; what each rank told."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts=1"]
    command += [f"--nproc-per-node={ranks}", "--monitor-interval=0.1"]
    command += ["-m", "tests.learner.training.fsdp_rank", str(model), str(folder), str(STEPS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run(
        [*command, str(dies_at)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(ranks)]


def difference(got: dict[str, Tensor], want: dict[str, Tensor], start: dict[str, Tensor]) -> float:
    """The norm of the difference, relative to that of what was added to `start`."""
    wrong = sum(float((got[name] - want[name]).square().sum()) for name in want)
    moved = sum(float((want[name] - start[name]).square().sum()) for name in want)
    return (wrong / moved) ** 0.5


@pytest.mark.timeout(300)
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_of_which_one_is_killed_train_as_one_process(ranks, single, tiny_model, tmp_path):
    told = run_ranks(ranks, tiny_model, tmp_path, dies_at=2)

    assert [of_rank["began"] for of_rank in told] == [2] * ranks, "it went on, not over again"
    adapter = load_adapter(tmp_path / "adapter")
    start = dict(single.start.tensors)
    assert difference(dict(adapter.tensors), dict(single.adapter.tensors), start) < TOLERANCE
    state, zeros = load_file(tmp_path / "optimiser.safetensors"), single.optimiser
    zeros = {name: torch.zeros_like(tensor) for name, tensor in zeros.items()}
    for key in ("step.", "exp_avg.", "exp_avg_sq."):
        want = {name: t for name, t in single.optimiser.items() if name.startswith(key)}
        assert difference(state, want, zeros) < TOLERANCE, key

    want = single.reports[-1]
    for of_rank in told:
        got = StepReport(**of_rank["reports"][-1])
        assert (got.answers, got.tokens) == (want.answers, want.tokens)
        for name in ("kl", "entropy", "ratio", "grad_norm"):
            assert getattr(got, name) == pytest.approx(getattr(want, name), rel=1e-3), name

    for name, (_, size) in told[0]["held"].items():
        held = [of_rank["held"][name][0] for of_rank in told]
        assert sum(held) == size, name
    sizes = [sum(held for held, _ in of_rank["held"].values()) for of_rank in told]
    assert max(sizes) <= 1.02 * sum(sizes) / ranks
