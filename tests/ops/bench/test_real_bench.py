"""The benchmark on a real model, on a tiny one: from votes to figures, and which goals are missed."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from burnish.kernels.lora import save_adapter
from burnish.learner.settings import LearnerSettings
from burnish.learner.update.start import fresh_adapter
from burnish.ops.bench import real
from burnish.ops.bench.lib import choosing, real_baselines
from burnish.ops.bench.lib.everyday_prompts import load_prompts
from burnish.ops.bench.lib.learning_loop import LearningLoop, Vote
from burnish.ops.bench.lib.real_report import check_goals, plot, print_tables
from burnish.ops.bench.lib.results import write_results
from burnish.serving.api.best_of import draw_of

SMALL = {
    "update_steps": 1,
    "answers_per_step": 16,
    "max_answer_tokens": 24,
    "gate_tasks_per_family": 1,
    "tasks": "ember",
    "lora_rank": 4,
}


@pytest.fixture
def loop(tiny_model: Path, tmp_path: Path) -> LearningLoop:
    return LearningLoop(LearnerSettings(model=tiny_model, data_dir=tmp_path, **SMALL))


def test_votes_become_versions_and_figures(loop, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(real, "ANSWER_TOKENS", 12)
    monkeypatch.setattr(real, "BEST_OF", 4)
    plan = real.Plan(votes=24, updates=2, prompts=10, samples=2, seed=0, best_of=2, rates=())
    figures: dict[str, Any] = {}
    real.measure(loop, plan, figures.update)
    assert figures["base"]["liked"] == pytest.approx(0.5, abs=1e-3)
    assert figures["base"]["best_of_16_liked"] > 0.5
    assert [row["votes"] for row in figures["updates"]] == [12, 24]
    assert [row["steps"] for row in figures["updates"]] == [1, 1]
    for row in figures["updates"]:
        assert None not in (row["best_way"], row["reward_way"])
        assert row["training"]["reward_samples"] == row["votes"]
        assert row["kl"] >= 0
    assert 0 <= figures["updates"][-1]["skill"]["base"] <= 1
    goals = check_goals(figures)
    assert not goals[0].met, "too few votes to say"
    print_tables(figures, goals)
    assert "best of 16" in capsys.readouterr().out
    assert plot(figures, tmp_path / "real.png").stat().st_size > 0


def test_an_update_learns_from_the_votes_as_they_were_cast(loop):
    answers = loop.answer(load_prompts("train")[:6], max_tokens=8, seed=1, adapter=None)
    votes = [Vote(given[0], f"user-{n % 2}", n % 3 == 0) for n, given in enumerate(answers)]
    loop.judge(votes)
    trained = loop.update()
    assert trained.progress.figures["reward_samples"] == 6
    assert trained.progress.figures["quarantined"] == 0
    assert loop.adapter == "bench@2"
    again = loop.answer(load_prompts("train")[:2], max_tokens=8, seed=1, adapter=loop.adapter)
    assert [len(given) for given in again] == [1, 1]


def test_the_exam_chooses_as_serving_would(loop):
    """An answer that was cut, one that has lost its way and one without a token are never given for
    their score, and the draw is that of the request's seed."""
    asked = loop.answer(load_prompts("heldout")[:1], samples=5, max_tokens=8, seed=1, adapter=None)
    scores = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.6, 4: 0.5}
    answers = [
        replace(
            answer,
            finish_reason="length" if place == 0 else "stop",
            rollout=replace(
                answer.rollout,
                token_ids=() if place == 1 else (1, 2),
                logprobs=() if place == 1 else (-9.0,) * 2 if place == 2 else (-1.0,) * 2,
            ),
        )
        for place, answer in enumerate(asked[0])
    ]
    drawn = []

    class Reward:
        draws = 64

        def scores_and_support(self, features, draw):
            drawn.append(draw)
            return torch.tensor(list(scores.values())), torch.ones(5)

    reward: Any = Reward()
    assert choosing.chosen(reward, answers, torch.zeros(5, 1), seed=7) == 3
    assert drawn == [draw_of(7, 64)]


def test_answers_of_a_seed_are_always_the_same(loop):
    prompts = load_prompts("heldout")[:3]
    seed = random.Random(0).getrandbits(20)
    one, two = (
        loop.answer(prompts, samples=2, max_tokens=8, seed=seed, adapter=None) for _ in range(2)
    )
    assert one == two
    assert [a.prompt for given in one for a in given] == [p for p in prompts for _ in range(2)]


def test_baselines_train_on_as_many_votes_of_the_base_and_the_best_rate_counts(
    loop, tmp_path, monkeypatch
):
    monkeypatch.setattr(real, "ANSWER_TOKENS", 12)
    monkeypatch.setattr(real, "BEST_OF", 4)
    logs: list[tuple[str, list[dict], float]] = []

    def train(method: str, model: Path, log: Path, out: Path, rate: float) -> Path:
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        logs.append((method, rows, rate))
        adapter = fresh_adapter(loop.learner.model, loop.settings)
        for tensor in adapter.tensors.values():
            tensor.normal_(std=rate * 100)
        save_adapter(adapter, out, str(model))
        return out

    monkeypatch.setattr(real, "train_baseline", train)
    plan = real.Plan(
        votes=90, updates=0, prompts=10, samples=2, seed=0, best_of=2, rates=real.RATES
    )
    figures: dict[str, Any] = {}
    real.measure(loop, plan, figures.update)
    assert check_goals(figures) == [], "without an update nothing is promised"
    found = figures["baselines"]
    assert [(method, rate) for method, _, rate in logs] == [
        (method, rate) for method in ("kto", "dpo") for rate in real.RATES
    ]
    for method, rows, _ in logs:
        assert {row.get("version") or row["chosen_version"] for row in rows} == {1}
        assert len(rows) == 90 if method == "kto" else rows
    for best in found.values():
        assert best["way"] == max(run["way"] for run in best["runs"])
        assert len({run["way"] for run in best["runs"]}) > 1


def test_learner_and_baselines_may_be_measured_apart(tmp_path, monkeypatch):
    plan = {"model": "smollm2", "settings": {}, "votes": 40, "seed": 0}
    assert real.earlier(tmp_path, plan) == plan
    write_results("real", {**plan, "updates": [1]}, tmp_path)
    assert real.earlier(tmp_path, plan)["updates"] == [1]
    assert "updates" not in real.earlier(tmp_path, {**plan, "votes": 50}), "another plan"
    monkeypatch.setattr(real, "MACHINE", {"cpu": "another"})
    assert "updates" not in real.earlier(tmp_path, plan), "another machine"


def test_a_baseline_that_fails_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(real_baselines, "TRAINER", "no_such_module")
    with pytest.raises(real_baselines.BaselineFailed, match="no_such_module"):
        real_baselines.train_baseline("kto", tmp_path, tmp_path / "log", tmp_path / "out", 1e-3)


GOOD = {
    "seconds": 3600.0,
    "updates": [
        {"votes": 1000, "way": 0.6, "skill": {"version": 0.5, "base": 0.5}},
    ],
    "baselines": {"KTO": {"way": 0.3}, "DPO": {"way": 0.2}},
}


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({}, []),
        ({"seconds": 7300.0}, ["hours"]),
        ({"baselines": {}}, ["way ahead of the better of tuned KTO and DPO"]),
        ({"baselines": {"DPO": {"way": 0.7}}}, ["way ahead of the better of tuned KTO and DPO"]),
        (
            {"updates": [{"votes": 1000, "way": 0.4, "skill": {"version": 0.4, "base": 0.5}}]},
            [
                "way from base to best of 16, 1000 votes",
                "skill on the built-in pack, against the base",
            ],
        ),
    ],
)
def test_a_missed_goal_is_told(changed, missed):
    assert [goal.line for goal in check_goals({**GOOD, **changed}) if not goal.met] == missed
