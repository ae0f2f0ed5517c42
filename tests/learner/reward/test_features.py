"""Features: independent of the batch, and computed once per base."""

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.reward import experience
from burnish.learner.reward.features import features_of
from burnish.serving.reward.features import MANNER, base_features

from tests.learner.conftest import interaction, thumbs


@pytest.fixture(scope="module")
def model(tiny_model) -> LoadedModel:
    return load_model(tiny_model)


def test_features_do_not_depend_on_the_rest_of_the_batch(model):
    answers = [(tuple(range(30, 34 + n)), tuple(range(90, 92 + n))) for n in range(6)]
    together = base_features(model, answers)
    alone = torch.cat([base_features(model, [answer]) for answer in answers])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    assert together.shape == (6, 3 * model.config.hidden_size + MANNER)


def test_features_of_judged_answers_are_computed_once(model, sqlite: Database, monkeypatch):
    with sqlite.write() as session:
        upsert(session, [interaction(1), thumbs(1), interaction(2, prompt_ids=[7, 8]), thumbs(2)])
    with sqlite.read() as session:
        judged = experience.load(session, "default", champion=1, limit=9, max_staleness=9)
    first = features_of(sqlite, model, judged[:1])
    computed = []
    states = model.states
    monkeypatch.setattr(
        model,
        "states",
        lambda sequences, layers: computed.extend(sequences) or states(sequences, layers),
    )
    both = features_of(sqlite, model, judged)
    assert computed == [judged[1].prompt_ids + judged[1].token_ids]
    assert torch.equal(both[:1], first)
    assert torch.equal(features_of(sqlite, model, judged[::-1]), both.flip(0))
    assert len(computed) == 1
