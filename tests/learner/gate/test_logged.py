"""Checks on logged prompts, on a tiny model: who is asked, what is told, and what is kept of it."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, LoraSpec, init_adapter
from burnish.kernels.model import LoadedModel
from burnish.learner.gate.answers import CANDIDATE, CHAMPION, BaseAnswers, Panel
from burnish.learner.gate.limits import GateLimits
from burnish.learner.gate.logged import FEWEST_PROMPTS, Logged, _worst_cohort, check_logged
from burnish.learner.gate.preference import Change
from burnish.learner.gate.report import Check
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.experience import LoggedPrompt
from burnish.learner.reward.fitting import fit
from burnish.serving.engine import LocalEngine
from burnish.serving.reward.features import base_features
from burnish.serving.reward.kernel import Hyperparameters

VOTES, USERS = 72, 18


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LoadedModel:
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def engine(model: LoadedModel) -> LocalEngine:
    return LocalEngine(model, max_running=32)


def adapter(model: LoadedModel, noise: float = 0.0) -> AdapterWeights:
    fresh = init_adapter(model.model, LoraSpec(rank=4, alpha=8), seed=0)
    generator = torch.Generator().manual_seed(1)
    return AdapterWeights(
        fresh.spec,
        {
            n: t + noise * torch.randn(t.shape, generator=generator)
            for n, t in fresh.tensors.items()
        },
    )


@pytest.fixture(scope="module")
def logged(model: LoadedModel) -> Logged:
    rng = Random(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(30, 200) for _ in range(count))

    judged = [(tokens(6), tokens(4)) for _ in range(VOTES)]
    evidence = Evidence(
        base_features(model, judged),
        torch.tensor([float(rng.random() < 0.5) for _ in judged]),
        torch.ones(VOTES),
        [f"user-{number % USERS}" for number in range(VOTES)],
    )
    prompts = [LoggedPrompt(tokens(6), user=f"user-{number}") for number in range(24)]
    return Logged(prompts, evidence, fit(evidence, evidence.ages, Hyperparameters()))


def checks(
    model: LoadedModel, engine: LocalEngine, folder: Path, logged: Logged, noise: float
) -> dict[str, Check]:
    adapters = {CANDIDATE: adapter(model, noise), CHAMPION: adapter(model)}
    panel = Panel(model, engine, 8, BaseAnswers(folder, model.sha256, 8), adapters)
    with panel.seated():
        return {check.name: check for check in check_logged(panel, logged, GateLimits())}


def test_who_answers_as_before_is_liked_as_before(model, engine, tmp_path, logged):
    found = checks(model, engine, tmp_path, logged, 0.0)
    assert list(found) == [
        "kl/logged",
        *(f"{what}/{of}" for of in ("champion", "base") for what in ("preference", "cohorts")),
    ]
    assert all(check.passed for check in found.values())
    assert found["preference/base"].value == pytest.approx(0.0, abs=1e-4)


def test_a_policy_that_ran_off_is_seen_on_peoples_prompts(model, engine, tmp_path, logged):
    found = checks(model, engine, tmp_path, logged, 3.0)
    assert not found["kl/logged"].passed


def test_nothing_that_people_asked_is_kept(model, engine, tmp_path, logged):
    checks(model, engine, tmp_path, logged, 0.0)
    assert list(tmp_path.iterdir()) == []


def test_of_a_few_prompts_nothing_is_said(model, engine, tmp_path, logged):
    few = Logged(logged.prompts[: FEWEST_PROMPTS - 1], logged.evidence, logged.fitted)
    assert checks(model, engine, tmp_path, few, 0.0) == {}


def test_tenants_and_languages_are_cohorts_where_several_asked_enough(
    model, engine, tmp_path, logged
):
    german, english = (
        tuple(model.tokenizer.encode(text, add_special_tokens=False))
        for text in ("Wie ist das Wetter in der Stadt und auf dem Land?", "How is the weather?")
    )
    asked = [
        LoggedPrompt((*(german if at % 2 else english), 40 + at), tenant=f"shop-{at // 16}")
        for at in range(32)
    ]
    found = checks(model, engine, tmp_path, replace(logged, prompts=asked), 0.0)
    told = found["cohorts/base"].says
    cohorts = int(told.split()[1])
    alone = checks(model, engine, tmp_path, logged, 0.0)["cohorts/base"].says
    assert cohorts == int(alone.split()[1]) + 4, "two tenants and two languages more"
    assert "shop" not in told, "others may read the report"


def test_what_one_tenant_loses_is_seen_though_others_gain():
    found = [("a tenant, with 20 prompts", Change(-0.3, 0.01)), ("others", Change(0.1, 0.01))]
    check = _worst_cohort("base", found, GateLimits())
    assert not check.passed
    assert "the worst off (a tenant, with 20 prompts) moved by -0.300" in check.says
