"""Gates of a product's own: found by name or file, asked beside the references, never passed by failing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from burnish.learner.gate import plugins
from burnish.learner.gate.answers import Answer
from burnish.learner.gate.limits import GateLimits
from burnish.learner.gate.plugins import Check, GateError, OwnGate, Trial, open_gates


class Panel:
    """A candidate that says yes beside a base that says no."""

    references = ("base",)

    def answers(self, questions: Any) -> dict[str, list[Answer]]:
        self.asked = questions
        said = {"candidate": "yes", "base": "no"}
        return {
            policy: [Answer(text=text, token_ids=(1,), logprobs=(0.0,)) for _ in questions]
            for policy, text in said.items()
        }


@pytest.fixture
def trial() -> Trial:
    panel: Any = Panel()
    return Trial(panel, GateLimits())


def agrees(trial: Trial) -> Check:
    said = trial.ask([[{"role": "user", "content": "Is it so?"}]])["candidate"]
    return Check(name="agrees", value=1, passed="yes" in said[0], says="it agrees")


def test_a_trial_asks_every_policy_with_the_same_seeds(trial):
    assert trial.policies == ["candidate", "base"]
    said = trial.ask([[{"role": "user", "content": "a?"}], [{"role": "user", "content": "b?"}]])
    assert said == {"candidate": ["yes", "yes"], "base": ["no", "no"]}
    assert [question.seed for question in trial.panel.asked] == [0, 1]


def test_its_checks_stand_under_its_name(trial):
    [check] = OwnGate("shop", agrees).checks(trial)
    assert (check.name, check.passed) == ("shop/agrees", True)
    several = OwnGate("shop", lambda trial: [agrees(trial), agrees(trial)])
    assert len(several.checks(trial)) == 2


@pytest.mark.parametrize("broken", [lambda trial: 1 / 0, lambda trial: None, lambda trial: [5]])
def test_a_gate_that_fails_is_not_passed_and_says_why(trial, broken):
    [check] = OwnGate("shop", broken).checks(trial)
    assert not check.passed
    assert check.says.startswith("the gate shop raised ")


def test_a_file_and_a_function_in_it(tmp_path: Path, trial):
    file = tmp_path / "gates.py"
    file.write_text(
        "from burnish.learner.gate.plugins import Check\n"
        "def never(trial):\n"
        "    return Check(name='never', value=0, passed=False, says='never')\n"
    )
    [gate] = open_gates(f" {file}:never ,")
    assert not gate.checks(trial)[0].passed


def test_an_entry_point(monkeypatch, trial):
    point = SimpleNamespace(name="shop", value="shop:agrees", load=lambda: agrees)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    [gate] = open_gates("shop")
    assert gate.checks(trial)[0].passed


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("shop", "no gate of that name is installed"),
        ("none.py:f", "none.py cannot be imported"),
        ("json:nothing", "json has no function 'nothing'"),
    ],
)
def test_what_is_no_gate_is_refused_by_name(name, told):
    with pytest.raises(GateError, match=told):
        open_gates(name)


def test_without_a_setting_there_are_none():
    assert open_gates("") == []
