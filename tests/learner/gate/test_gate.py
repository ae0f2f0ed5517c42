"""The gate as a whole, on a tiny model that solves nothing."""

from pathlib import Path

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, LoraSpec, init_adapter
from burnish.kernels.model import LoadedModel
from burnish.learner.gate.answers import CANDIDATE, CHAMPION, BaseAnswers, Panel
from burnish.learner.gate.gate import evaluate, prepare
from burnish.learner.gate.limits import GateLimits
from burnish.learner.gate.manner import kl_to_base
from burnish.learner.gate.report import GateReport
from burnish.learner.gate.suite import Suite
from burnish.learner.tasks import GeneratorPack, TaskSource
from burnish.serving.engine import LocalEngine


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LoadedModel:
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def engine(model: LoadedModel) -> LocalEngine:
    return LocalEngine(model, max_running=32)


def asked(rng, level):
    ask = f"{rng.random()}?"
    return {"messages": [{"role": "user", "content": ask}], "check": lambda answer: "a" in answer}


@pytest.fixture(scope="module")
def suite(model: LoadedModel) -> Suite:
    source = TaskSource([GeneratorPack("ours", {"one": asked, "two": asked})])
    return Suite(model, source, per_family=4, max_tokens=6)


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


def panel(suite: Suite, engine: LocalEngine, folder: Path, **adapters: AdapterWeights) -> Panel:
    base = BaseAnswers(folder, suite.model.sha256, suite.max_tokens)
    return Panel(suite.model, engine, suite.max_tokens, base, adapters)


def judge(suite, engine, folder, *adapters: AdapterWeights, **limits) -> GateReport:
    """A candidate, perhaps beside a champion, on a base of its own."""
    told = GateLimits(most_tasks=300, **limits)
    gate = prepare(suite, panel(suite, engine, folder), told)
    named = dict(zip((CANDIDATE, CHAMPION), adapters, strict=False))
    return evaluate(gate, panel(suite, engine, folder, **named))


def test_the_base_itself_passes(model, engine, suite, tmp_path):
    report = judge(suite, engine, tmp_path, adapter(model, 0.0))
    assert report.passed
    assert report.why_not is None
    assert {check.name: check.value for check in report.checks}["kl"] == pytest.approx(0, abs=1e-4)


def test_a_champion_is_asked_beside_the_base(model, engine, suite, tmp_path):
    report = judge(suite, engine, tmp_path, adapter(model, 0.0), adapter(model, 0.0))
    assert {"skill/champion", "skill/base", "families/champion", "length/champion"} <= {
        check.name for check in report.checks
    }
    assert report.answers == 2 * sum(report.asked.values())


def test_a_wrecked_candidate_is_refused_with_reasons(model, engine, suite, tmp_path):
    report = judge(suite, engine, tmp_path, adapter(model, 3.0))
    assert not report.passed
    assert report.why_not is not None
    assert "KL to the base" in report.why_not


def test_what_is_undecided_at_the_cap_has_not_passed(model, engine, suite, tmp_path):
    report = judge(suite, engine, tmp_path, adapter(model, 0.0), alpha=1e-30)
    assert not report.passed
    assert "undecided, which does not pass" in (report.why_not or "")


def test_the_report_is_the_same_every_time(model, engine, suite, tmp_path):
    reports = [
        judge(suite, engine, tmp_path, adapter(model, 0.05)).model_dump(exclude={"seconds"})
        for _ in range(2)
    ]
    assert reports[0] == reports[1]


def test_the_bases_answers_are_drawn_once(engine, suite, tmp_path, monkeypatch):
    with panel(suite, engine, tmp_path).seated() as alone:
        first = alone.answers(suite.questions)
    monkeypatch.setattr(engine, "generate_batch", lambda requests: [1 / 0 for _ in requests])
    assert panel(suite, engine, tmp_path).answers(suite.questions) == first


def test_a_file_of_answers_that_cannot_be_read_is_drawn_anew(engine, suite, tmp_path):
    with panel(suite, engine, tmp_path).seated() as alone:
        alone.answers(suite.questions)
    [file] = tmp_path.iterdir()
    file.write_text('{"x": 1}')
    assert panel(suite, engine, tmp_path).base.known == {}


def test_probes_at_which_the_base_never_does_well_are_not_asked_and_told(
    model, engine, suite, tmp_path
):
    report = judge(suite, engine, tmp_path, adapter(model, 0.0))
    assert "harmful requests" not in report.asked
    assert any(
        "not asked, since the base hardly ever does well: harmful" in n for n in report.notes
    )


def test_kl_sees_a_moved_policy(model, engine, suite, tmp_path):
    moved = panel(suite, engine, tmp_path, candidate=adapter(model, 0.3))
    with moved.seated():
        answers = moved.answers(suite.questions)[CANDIDATE]
    assert kl_to_base(model, moved.rollouts(suite.questions, answers)) > 0.001
