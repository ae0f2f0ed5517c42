"""How long an update trains, how fast, and how long its answers may be."""

from types import SimpleNamespace

import pytest
from burnish.learner.settings import LearnerSettings
from burnish.learner.update.loop import budgets, most_steps, step_config, trainer_config

from tests.learner.rules.conftest import data_of, judged
from tests.learner.update.conftest import progress


def model(width: int = 256, window: int = 2048) -> SimpleNamespace:
    """As much of a loaded model as a training loop asks for before it trains."""
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(hidden_size=width))
    return SimpleNamespace(config=config, max_model_len=window)


@pytest.mark.parametrize(
    ("judgements", "steps"), [(1, 1), (4, 1), (5, 2), (80, 20), (384, 96), (6000, 96)]
)
def test_few_judgements_bear_few_steps(judgements, steps):
    assert most_steps(judgements, LearnerSettings(answers_per_step=64, update_steps=96)) == steps


@pytest.mark.parametrize(
    ("since_base", "generation", "times"),
    [(1, 1, 1), (3, 30, 1), (0, 1, 4), (0, 4, 4), (0, 6, 6), (0, 8, 8), (0, 27, 8)],
)
def test_an_update_that_begins_anew_trains_as_long_as_all_before_it_did(
    since_base: int, generation: int, times: int
):
    assert budgets(progress(since_base=since_base, generation=generation)) == times


def test_tasks_bear_any_number_of_steps():
    settings = LearnerSettings(answers_per_step=64, update_steps=96, rule="grpo")
    assert most_steps(1, settings) == 96


@pytest.mark.parametrize(("width", "rate"), [(256, 1e-3), (512, 5e-4), (2048, 1.25e-4)])
def test_the_wider_a_model_the_slower_it_learns(width: int, rate: float):
    config = trainer_config(LearnerSettings(), model(width))  # type: ignore[arg-type]
    assert config.learning_rate == pytest.approx(rate)
    told = LearnerSettings(learning_rate=2e-5, kl_weight=0.3)
    config = trainer_config(told, model(width))  # type: ignore[arg-type]
    assert (config.learning_rate, config.kl_weight) == (2e-5, 0.3)


@pytest.mark.parametrize(
    ("lengths", "window", "most"),
    [
        ([40] * 95 + [400] * 5, 2048, 50),  # a few long ones do not set the length
        ([4] * 20, 2048, 24),
        ([900] * 20, 2048, 256),
        ([100] * 20, 64, 32),
        ([], 2048, 256),
    ],
)
def test_answers_may_be_as_long_as_the_log_has_them(lengths: list[int], window: int, most: int):
    data = data_of([judged(1.0, token_ids=(3,) * length) for length in lengths])
    settings = LearnerSettings(max_answer_tokens=256)
    config = step_config(data, model(window=window), settings)  # type: ignore[arg-type]
    assert config.max_tokens == most
