"""The bench of the gate's power: candidates whose worth is known, and what must be shown of them."""

from pathlib import Path

import pytest
from burnish.kernels.loading import load_model
from burnish.learner.gate.answers import CANDIDATE, Answer, BaseAnswers, Question
from burnish.learner.tasks import Task
from burnish.ops.bench import gate
from burnish.ops.bench.gate import KINDS, check_goals, toss
from burnish.ops.bench.lib.gate_candidates import PlantedPanel, Swaps
from burnish.serving.engine import LocalEngine

RATES = {"a": 0.5, "b": 0.7, "c": 0.9, "d": 1.0}


@pytest.mark.parametrize("name", ["half of one skill lost", "five points lost", "as good"])
def test_coins_let_no_bad_candidate_through(name):
    shift, good = KINDS[name]
    found = toss(RATES, shift, good, 4)
    assert found["of"] == 4
    assert found["passed"] >= 3 if good else found["passed"] == 0


def questions(count: int) -> list[Question]:
    """Of which those whose number is even are solved by what `known` answers."""
    return [
        Question(
            Task("ours", ({"role": "user", "content": f"{n}?"},), lambda text, n=n: str(n) in text),
            n,
        )
        for n in range(count)
    ]


@pytest.fixture
def panel(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlantedPanel:
    model = load_model(tiny_model)
    base = BaseAnswers(tmp_path, model.sha256, 4)

    def drawn(self, wanted):
        return [
            Answer(text=q.task.messages[0]["content"], token_ids=(1,), logprobs=(0.0,))
            for _, q in wanted
        ]

    monkeypatch.setattr("burnish.learner.gate.answers.Panel.draw", drawn)
    return PlantedPanel(model, LocalEngine(model), 4, base, {}, Swaps({}, {}))


def test_right_answers_are_lost_at_the_rate_that_was_planted(panel):
    panel.swaps = Swaps({"ours": 0.5}, {})
    asked = [(CANDIDATE, question) for question in questions(9)]
    wrong = sum(
        not question.task.is_correct(answer.text)
        for (_, question), answer in zip(asked * 20, panel.draw(asked * 20), strict=True)
    )
    assert 0.35 < wrong / 180 < 0.65


def test_nobody_else_is_touched(panel):
    panel.swaps = Swaps({"ours": 1.0}, {})
    asked = [("base", question) for question in questions(9)]
    assert all(
        question.task.is_correct(answer.text)
        for (_, question), answer in zip(asked, panel.draw(asked), strict=True)
    )


def trials(blocked: int, promoted: int) -> list[dict]:
    bad = [{"good": False, "passed": n >= blocked, "cpu_seconds": 5.0} for n in range(20)]
    return bad + [{"good": True, "passed": n < promoted, "cpu_seconds": 9.0} for n in range(30)]


@pytest.mark.parametrize(
    ("blocked", "promoted", "met"), [(20, 27, True), (19, 30, False), (20, 26, False)]
)
def test_what_must_be_shown(blocked, promoted, met):
    coins = {"bad": {"good": False, "passed": 0}}
    goals = check_goals(coins, trials(blocked, promoted))
    assert all(goal.met for goal in goals) is met
    assert len(goals) == 4


def test_without_the_model_only_coins_are_shown():
    [goal] = check_goals({"bad": {"good": False, "passed": 1}}, [])
    assert not goal.met


def test_there_are_twenty_bad_and_thirty_good():
    manners, by_votes = 6, 3  # of `spoilt`, and of a crowd
    assert gate.HALVED + gate.WORSE + manners + by_votes == 20
    assert gate.GOOD_SWAPPED + gate.GOOD_TAUGHT == 30
