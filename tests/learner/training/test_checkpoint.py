"""Checkpoints: a round trip, the older layout, crashes while writing, and pruning."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from burnish.kernels.lora import AdapterWeights, LoraSpec, init_adapter, save_adapter
from burnish.learner.training import checkpoint
from burnish.learner.training.checkpoint import CheckpointError, TrainingProgress
from burnish.learner.training.optimiser import write_state
from safetensors.torch import save_file

PROGRESS = TrainingProgress(
    update="u",
    policy="default",
    parent=1,
    base_sha256="abc",
    high_water=7,
    step=3,
    seconds=1.5,
    done=True,
    code="0.1",
    seed=5,
    figures={"kl": 0.25},
)
OPTIMISER = {"step.a": torch.tensor(3.0)}
RULE_STATE = {"w1": torch.ones(2), "rehearsal": {"rates": {"units/1": 0.5}}, "baseline": 0.125}


@pytest.fixture
def adapter(model) -> AdapterWeights:
    return init_adapter(model.model, LoraSpec(rank=4, alpha=8), seed=0)


def saved(folder: Path, adapter: AdapterWeights) -> Path:
    def save_optimiser(draft: Path) -> None:
        write_state(draft, OPTIMISER)

    checkpoint.save(folder, PROGRESS, adapter, save_optimiser, RULE_STATE, "tiny")
    return folder


def test_a_saved_checkpoint_loads_as_it_was(tmp_path, adapter):
    found = checkpoint.load(saved(tmp_path / "u", adapter))
    assert found is not None
    assert found.progress == PROGRESS
    assert found.adapter.tensors.keys() == adapter.tensors.keys()
    assert torch.equal(found.optimiser["step.a"], torch.tensor(3.0))
    assert torch.equal(found.rule_state.pop("w1"), torch.ones(2))
    assert found.rule_state == {"rehearsal": {"rates": {"units/1": 0.5}}, "baseline": 0.125}


def test_shares_of_several_ranks_load_as_one(tmp_path, adapter):
    step, moment = torch.tensor(3.0), torch.arange(14.0).reshape(7, 2)

    def save_optimiser(draft: Path) -> None:
        for rank, rows in enumerate(moment.chunk(3)):
            write_state(draft, {"step.a": step, "exp_avg.a": rows}, rank, ranks=3)

    checkpoint.save(tmp_path / "u", PROGRESS, adapter, save_optimiser, {}, "tiny")
    found = checkpoint.load(tmp_path / "u")
    assert found is not None
    assert torch.equal(found.optimiser["exp_avg.a"], moment)
    assert torch.equal(found.optimiser["step.a"], step)
    next((tmp_path / "u").glob("optimiser-2-of-3*")).unlink()
    with pytest.raises(CheckpointError, match="optimiser-2-of-3"):
        checkpoint.load(tmp_path / "u")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [({"rule": {"rehearsal": {"rates": {}}}}, {"rehearsal": {"rates": {}}}), ({}, {})],
)
def test_the_layout_of_earlier_versions_loads(tmp_path, adapter, rule, expected):
    folder = tmp_path / "u"
    save_adapter(adapter, folder / "adapter", "tiny")
    save_file(OPTIMISER, folder / "optimiser.safetensors")
    save_file({"centre": torch.zeros(4)}, folder / "heads.safetensors")
    (folder / "progress.json").write_text(json.dumps(asdict(PROGRESS) | rule))
    found = checkpoint.load(folder)
    assert found is not None
    assert found.progress == PROGRESS
    assert torch.equal(found.rule_state.pop("centre"), torch.zeros(4))
    assert found.rule_state == expected


def test_a_crash_between_the_two_renames_leaves_the_older_checkpoint(
    tmp_path, adapter, monkeypatch
):
    folder = saved(tmp_path / "u", adapter)
    rename = Path.rename

    def crash(path: Path, target: Path) -> Path:
        if target == folder:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            saved(folder, adapter)
    assert not folder.exists()
    found = checkpoint.load(folder)
    assert found is not None
    assert found.progress == PROGRESS


def test_no_checkpoint_is_none_and_a_damaged_one_an_error(tmp_path, adapter):
    folder = tmp_path / "u"
    assert checkpoint.load(folder) is None
    saved(folder, adapter)
    (folder / "progress.json").write_text("{")
    with pytest.raises(CheckpointError, match="u"):
        checkpoint.load(folder)


def test_pruning_keeps_the_newest_and_those_to_spare(tmp_path, adapter):
    for age, name in enumerate(["newest", "newer", "older", "oldest"]):
        folder = saved(tmp_path / name, adapter)
        os.utime(folder, (1000 - age, 1000 - age))
    checkpoint.prune(tmp_path, keep=2, spare=frozenset({"oldest"}))
    assert {path.name for path in tmp_path.iterdir()} == {"newest", "newer", "oldest"}
