"""How many prompt tokens a step computes beside those that decode, by the times that steps took."""

from types import SimpleNamespace
from typing import Any

import pytest
from burnish.serving.engine.runner import CHUNK, LARGEST_CHUNK, LEAST_CHUNK, QUICK_S, ModelRunner

PROMPT_TOKEN_S = 0.0001


@pytest.fixture
def runner() -> ModelRunner:
    """Of which only the times are of interest."""
    model: Any = SimpleNamespace(
        config=SimpleNamespace(vocab_size=8), eos_token_ids=frozenset(), device="cpu", native=True
    )
    return ModelRunner(model, SimpleNamespace(), 4, speculative=False)  # type: ignore[arg-type]


def took(runner: ModelRunner, decoding: int, prompt: int, seconds: float) -> None:
    chunks = [SimpleNamespace(start=0, end=prompt)] if prompt else []
    scheduled: Any = SimpleNamespace(prefill=chunks, decode=[None] * decoding, drafted=False)
    runner._measure(scheduled, 1, seconds)


def test_it_is_a_guess_until_both_times_are_known(runner: ModelRunner) -> None:
    assert runner.chunk == CHUNK
    took(runner, 0, 200, 200 * PROMPT_TOKEN_S)
    assert runner.chunk == CHUNK
    took(runner, 1, 0, 0.001)
    assert runner.chunk == int(QUICK_S / PROMPT_TOKEN_S) // 16 * 16


def test_it_follows_decoding_that_never_has_a_step_to_itself(runner: ModelRunner) -> None:
    took(runner, 0, 200, 200 * PROMPT_TOKEN_S)
    took(runner, 1, 0, 0.001)  # the last step without prompts: one sequence, long ago
    for _ in range(60):
        took(runner, 32, runner.chunk, 0.020 + runner.chunk * PROMPT_TOKEN_S)
    assert runner.chunk == pytest.approx(0.020 / PROMPT_TOKEN_S, abs=16)


def test_a_slow_first_prompt_is_forgotten_with_the_next(runner: ModelRunner) -> None:
    took(runner, 0, 200, 200 * PROMPT_TOKEN_S * 50)  # everything was touched for the first time
    took(runner, 1, 0, 0.001)
    assert runner.chunk == LEAST_CHUNK
    took(runner, 0, 16, 1.0)  # too few to tell
    took(runner, 0, 64, 64 * PROMPT_TOKEN_S)
    assert runner.chunk == int(QUICK_S / PROMPT_TOKEN_S) // 16 * 16


def test_it_has_bounds(runner: ModelRunner) -> None:
    took(runner, 0, 200, 200 * PROMPT_TOKEN_S)
    took(runner, 1, 0, 10.0)
    assert runner.chunk == LARGEST_CHUNK
