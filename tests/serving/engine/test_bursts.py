"""How many decode steps one call takes."""

import math
from types import SimpleNamespace

import pytest
from burnish.serving.engine.runner import ModelRunner


def burst(step_s: float, native: bool = True) -> int:
    model = SimpleNamespace(native=object() if native else None)
    runner = SimpleNamespace(model=model, _step_s=step_s)
    return ModelRunner.burst.fget(runner)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("step_s", "steps"),
    [(1e-4, 32), (4e-4, 20), (2e-3, 8), (6e-3, 8), (0.02, 2), (0.2, 1), (math.inf, 1)],
)
def test_the_shorter_a_step_the_more_of_them_and_none_holds_readers_up(step_s: float, steps: int):
    assert burst(step_s) == steps
    assert steps == 1 or steps * step_s <= 0.05 + 1e-9


def test_pytorch_takes_one_at_a_time():
    assert burst(1e-4, native=False) == 1
