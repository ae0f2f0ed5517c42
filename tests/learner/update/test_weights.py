"""What the learner computes with, whatever format serving keeps weights in."""

from pathlib import Path

import pytest
from burnish.learner.database import Database
from burnish.learner.update.tick import Learner

from tests.learner.update.conftest import small_settings


@pytest.mark.parametrize("weights", ["auto", "int4"])
def test_it_samples_and_trains_on_lossless_weights(
    weights: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_WEIGHTS", weights)
    settings = small_settings(tmp_path, "redis://127.0.0.1:1/0", tiny_model)
    learner = Learner(settings, Database("sqlite:///:memory:"))
    assert learner.model.rounded is None
    assert learner.engine.lossless
    assert learner.engine.model is learner.model
