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
from burnish.kernels.lora import AdapterWeights, LoraSpec, init_adapter
from burnish.learner.training import checkpoint
from burnish.learner.training.optimiser import read_state
from burnish.learner.training.protocol import StepReport
from burnish.learner.training.trainer import PolicyTrainer
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
def single(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Single:
    """The same steps in one process."""
    model = load_model(tiny_model, device="cpu", native=False)
    start = init_adapter(model.model, LoraSpec(*SPEC), seed=0)
    trainer = PolicyTrainer(model, start, CONFIG)
    reports = [trainer.step(batch_of(step)) for step in range(STEPS)]
    folder = tmp_path_factory.mktemp("single")
    trainer.save_optimiser(folder)
    trainer.close()
    return Single(start, trainer.adapter.detached(), read_state(folder), reports)


def run_ranks(ranks: int, model: Path, folder: Path, *, dies_at: int) -> dict[str, Any]:
    """Train under torchrun while the last rank dies once; what the first rank told at last."""
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
    return json.loads((folder / "told.json").read_text())


def difference(got: dict[str, Tensor], want: dict[str, Tensor], start: dict[str, Tensor]) -> float:
    """The norm of the difference, relative to that of what was added to `start`."""
    wrong = sum(float((got[name] - want[name]).square().sum()) for name in want)
    moved = sum(float((want[name] - start[name]).square().sum()) for name in want)
    return (wrong / moved) ** 0.5


@dataclass(frozen=True)
class Group:
    ranks: int
    folder: Path
    told: dict[str, Any]


@pytest.fixture(scope="module", params=[2, 4])
def group(request, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Group:
    """Ranks that have trained, while the last one died at its third step, once."""
    folder = tmp_path_factory.mktemp("ranks")
    told = run_ranks(request.param, tiny_model, folder, dies_at=2)
    return Group(request.param, folder, told)


@pytest.mark.timeout(300)
def test_ranks_of_which_one_is_killed_train_as_one_process(group, single):
    told = group.told

    assert told["began"] == 2, "it went on, not over again"
    saved = checkpoint.load(group.folder / "checkpoint")
    assert saved is not None
    start = dict(single.start.tensors)
    got, want = dict(saved.adapter.tensors), dict(single.adapter.tensors)
    assert difference(got, want, start) < TOLERANCE
    zeros = {name: torch.zeros_like(tensor) for name, tensor in single.optimiser.items()}
    for key in ("step.", "exp_avg.", "exp_avg_sq."):
        want = {name: t for name, t in single.optimiser.items() if name.startswith(key)}
        assert difference(saved.optimiser, want, zeros) < TOLERANCE, key

    got, want = StepReport(**told["reports"][-1]), single.reports[-1]
    assert (got.answers, got.tokens) == (want.answers, want.tokens)
    for name in ("kl", "entropy", "ratio", "grad_norm"):
        assert getattr(got, name) == pytest.approx(getattr(want, name), rel=1e-3), name


@pytest.mark.timeout(300)
def test_each_rank_holds_its_share_of_the_weights(group):
    files = [group.folder / f"held{rank}.json" for rank in range(group.ranks)]
    held = [json.loads(file.read_text()) for file in files]

    for name, (_, size) in held[0].items():
        assert sum(of_rank[name][0] for of_rank in held) == size, name
    sizes = [sum(own for own, _ in of_rank.values()) for of_rank in held]
    assert max(sizes) <= 1.02 * sum(sizes) / group.ranks
