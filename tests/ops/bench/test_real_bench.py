"""The benchmark on a real model, on a tiny one: from votes to figures, and which goals are missed."""

import random
from pathlib import Path

import pytest
from burnish.learner.settings import LearnerSettings
from burnish.ops.bench import real
from burnish.ops.bench.lib.everyday_prompts import load_prompts
from burnish.ops.bench.lib.learning_loop import LearningLoop, Vote
from burnish.ops.bench.lib.real_report import check_goals, plot, print_tables

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
    figures = real.measure(
        loop, votes=24, updates=2, heldout=10, samples=2, seed=0, baselines=False
    )
    assert figures["base"]["liked"] == pytest.approx(0.5, abs=1e-3)
    assert figures["base"]["best_of_16_liked"] > 0.5
    assert [row["votes"] for row in figures["updates"]] == [12, 24]
    assert [row["steps"] for row in figures["updates"]] == [1, 1]
    for row in figures["updates"]:
        assert row["best_liked"] is not None
        assert row["training"]["reward_samples"] == row["votes"]
        assert row["kl"] >= 0
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


def test_answers_of_a_seed_are_always_the_same(loop):
    prompts = load_prompts("heldout")[:3]
    seed = random.Random(0).getrandbits(20)
    one, two = (
        loop.answer(prompts, samples=2, max_tokens=8, seed=seed, adapter=None) for _ in range(2)
    )
    assert one == two
    assert [a.prompt for given in one for a in given] == [p for p in prompts for _ in range(2)]


GOOD = {
    "seconds": 3600.0,
    "updates": [
        {"votes": 1000, "way": 0.6, "gate": {"skill": 0.5, "base_skill": 0.5}},
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
            {"updates": [{"votes": 1000, "way": 0.4, "gate": {"skill": 0.4, "base_skill": 0.5}}]},
            [
                "way from base to best of 16, 1000 votes",
                "skill on the built-in pack, against the base",
            ],
        ),
    ],
)
def test_a_missed_goal_is_told(changed, missed):
    assert [goal.line for goal in check_goals({**GOOD, **changed}) if not goal.met] == missed
