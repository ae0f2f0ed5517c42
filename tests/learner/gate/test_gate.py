from pathlib import Path

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, LoraSpec, init_adapter
from burnish.kernels.model import LoadedModel
from burnish.learner.gate.gate import (
    EvalResult,
    Limits,
    Suite,
    distinct_bigrams,
    examine,
    kl_to_base,
    paired_difference,
)
from burnish.serving.engine import LocalEngine


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LoadedModel:
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def engine(model: LoadedModel) -> LocalEngine:
    return LocalEngine(model, max_running=32)


@pytest.fixture(scope="module")
def suite(model: LoadedModel) -> Suite:
    return Suite(model, per_family=2, max_tokens=12)


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
    base = suite.base_trials(engine, tmp_path)
    report = examine(suite, engine, adapter(model, 0.0), base, Limits())
    assert report.passed
    assert report.why_not is None
    assert {check.name: check.value for check in report.checks}["kl"] == pytest.approx(0, abs=1e-4)


def test_a_wrecked_candidate_is_refused_with_reasons(model, engine, suite, tmp_path):
    base = suite.base_trials(engine, tmp_path)
    report = examine(suite, engine, adapter(model, 3.0), base, Limits())
    assert not report.passed
    assert report.why_not is not None
    assert "kl is" in report.why_not


def test_the_verdict_is_the_same_every_time(model, engine, suite, tmp_path):
    base = suite.base_trials(engine, tmp_path)
    reports = [
        examine(suite, engine, adapter(model, 0.05), base, Limits()).model_dump(exclude={"seconds"})
        for _ in range(2)
    ]
    assert reports[0] == reports[1]


def test_the_bases_figures_are_computed_once(engine, suite, tmp_path, monkeypatch):
    first = suite.base_trials(engine, tmp_path)
    monkeypatch.setattr(suite, "answers", lambda *_: 1 / 0)
    assert suite.base_trials(engine, tmp_path) == first


def skill_check(old: list[bool], new: list[bool]):
    from burnish.learner.gate.gate import _skill

    def trials(right: list[bool]) -> EvalResult:
        return EvalResult(right=right, lengths=[1] * len(right), entropy=1.0, diversity=1.0)

    return _skill(trials(old), trials(new), Limits())


def test_luck_on_a_few_tasks_does_not_fail_a_candidate():
    old = [True] * 160 + [False] * 40
    new = [True] * 140 + [False] * 40 + [True] * 20  # 20 lost, 20 won
    assert skill_check(old, new).passed
    unlucky = [True] * 138 + [False] * 48 + [True] * 14  # 22 lost, 14 won
    assert skill_check(old, unlucky).passed


def test_a_lost_tenth_of_the_skill_does():
    old = [True] * 160 + [False] * 40
    new = [True] * 135 + [False] * 60 + [True] * 5  # 25 lost, 5 won
    assert not skill_check(old, new).passed


def test_paired_difference():
    assert paired_difference([True, True], [True, False]) == (-0.5, pytest.approx(0.3535, abs=1e-3))


def test_repetition_lowers_diversity():
    assert distinct_bigrams([(1, 2, 3), (4, 5, 6)]) == 1.0
    assert distinct_bigrams([(1, 2, 3), (1, 2, 3)]) == 0.5
    assert distinct_bigrams([]) == 0.0


def test_kl_sees_a_moved_policy(model, engine, suite):
    engine.set_adapter_weights("moved", adapter(model, 0.3))
    answers = suite.answers(engine, "moved")
    engine.unload_adapter("moved")
    assert kl_to_base(model, answers) > 0.001
