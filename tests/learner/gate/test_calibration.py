"""Which families of a pack say something about a base, and what the gate does with the others."""

from types import SimpleNamespace
from typing import Any

from burnish.learner.gate.calibration import calibrate
from burnish.learner.gate.suite import Answers, EvalResult
from burnish.learner.tasks import GeneratorPack, Task, TaskSource


def suite(*families: str, calibrated: bool = True) -> Any:
    """Two tasks of each family."""
    pack = GeneratorPack(
        "ours", dict.fromkeys(families, lambda r, level: {}), calibrated=calibrated
    )
    tasks = [Task(family, (), lambda answer: True) for family in families for _ in range(2)]
    return SimpleNamespace(source=TaskSource([pack]), tasks=tasks)


def result(*right: bool | None) -> EvalResult:
    answers = Answers(texts=[""] * len(right), lengths=[1] * len(right), entropy=1, diversity=1)
    return EvalResult(answers, right)


def test_what_the_base_never_or_always_solves_is_not_rehearsed():
    found = calibrate(suite("a", "b", "c"), result(False, False, True, False, True, True))
    assert (found.never, found.always) == (("a",), ("c",))
    assert found.unrehearsed == {"a", "c"}
    assert found.notes == [
        "a left out, since the base never solves them",
        "c asked by the gate alone, since the base always solves them",
    ]


def test_a_family_without_a_verdict_stays():
    found = calibrate(suite("a"), result(None, None))
    assert found.unrehearsed == frozenset()
    assert found.notes == []


def test_packs_of_ones_own_are_taken_as_they_are():
    found = calibrate(suite("a", calibrated=False), result(False, False))
    assert found.unrehearsed == frozenset()
