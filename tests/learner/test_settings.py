"""Values that were renamed are still accepted, with a warning; defaults that follow from others."""

import warnings

import pytest
from burnish.learner.settings import LearnerSettings
from pydantic import ValidationError


@pytest.mark.parametrize(
    ("variable", "old", "new"),
    [
        ("BURNISH_RULE", "heads", "reward_model"),
    ],
)
def test_a_renamed_value_is_accepted_with_a_warning(monkeypatch, variable, old, new):
    monkeypatch.setenv(variable, old)
    with pytest.warns(FutureWarning, match=f"{variable}={old} is deprecated.* {new} "):
        settings = LearnerSettings()
    assert getattr(settings, variable.removeprefix("BURNISH_").lower()) == new
    monkeypatch.setenv(variable, new)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LearnerSettings()


def test_an_unknown_rule_is_refused(monkeypatch):
    monkeypatch.setenv("BURNISH_RULE", "luck")
    with pytest.raises(ValidationError, match="reward_model"):
        LearnerSettings()


def test_training_takes_its_share_of_the_time_between_updates():
    assert LearnerSettings(update_every=20).training_seconds == 15
    assert LearnerSettings(update_every=5400).training_seconds == 4050
    assert LearnerSettings(update_every=5400, update_seconds=30).training_seconds == 30
