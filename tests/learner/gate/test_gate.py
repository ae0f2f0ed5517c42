"""The gate as a whole, on a tiny model."""

from pathlib import Path

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, LoraSpec, init_adapter
from burnish.kernels.model import LoadedModel
from burnish.learner.gate.checks import GateLimits, kl_to_base
from burnish.learner.gate.gate import evaluate
from burnish.learner.gate.suite import Suite
from burnish.learner.tasks import open_source
from burnish.serving.engine import LocalEngine


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LoadedModel:
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def engine(model: LoadedModel) -> LocalEngine:
    return LocalEngine(model, max_running=32)


@pytest.fixture(scope="module")
def suite(model: LoadedModel) -> Suite:
    return Suite(model, open_source("ember"), per_family=2, max_tokens=12)


def adapter(model: LoadedModel, noise: float) -> AdapterWeights:
    fresh = init_adapter(model.model, LoraSpec(rank=4, alpha=8), seed=0)
    generator = torch.Generator().manual_seed(1)
    return AdapterWeights(
        fresh.spec,
        {
            name: t + noise * torch.randn(t.shape, generator=generator)
            for name, t in fresh.tensors.items()
        },
    )


def test_the_base_itself_passes(model, engine, suite, tmp_path):
    base = suite.base_result(engine, tmp_path)
    report = evaluate(suite, engine, adapter(model, 0.0), base, GateLimits())
    assert report.passed
    assert report.why_not is None
    assert {check.name: check.value for check in report.checks}["kl"] == pytest.approx(0, abs=1e-4)


def test_a_wrecked_candidate_is_refused_with_reasons(model, engine, suite, tmp_path):
    base = suite.base_result(engine, tmp_path)
    report = evaluate(suite, engine, adapter(model, 3.0), base, GateLimits())
    assert not report.passed
    assert report.why_not is not None
    assert "kl is" in report.why_not


def test_the_report_is_the_same_every_time(model, engine, suite, tmp_path):
    base = suite.base_result(engine, tmp_path)
    reports = [
        evaluate(suite, engine, adapter(model, 0.05), base, GateLimits()).model_dump(
            exclude={"seconds"}
        )
        for _ in range(2)
    ]
    assert reports[0] == reports[1]


def test_the_bases_result_is_computed_once(engine, suite, tmp_path, monkeypatch):
    first = suite.base_result(engine, tmp_path)
    monkeypatch.setattr(suite, "rollouts", lambda *_: 1 / 0)
    assert suite.base_result(engine, tmp_path) == first


def test_kl_sees_a_moved_policy(model, engine, suite):
    engine.set_adapter_weights("moved", adapter(model, 0.3))
    rollouts = suite.rollouts(engine, "moved")
    engine.unload_adapter("moved")
    assert kl_to_base(model, rollouts) > 0.001
