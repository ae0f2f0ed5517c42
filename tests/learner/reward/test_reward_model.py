"""Reward models by name, and how their quality is measured."""

import pytest
import torch
from burnish.learner.reward.base import auroc
from burnish.learner.reward.reward_model import REWARD_MODELS, load, make


@pytest.mark.parametrize("kind", sorted(REWARD_MODELS))
def test_a_model_of_another_kind_is_not_loaded(kind: str):
    assert load(kind, {}) is None
    features = torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    model = make(kind, 12, seed=0)
    liked = (features[:, 0] > 0).float()
    model.fit(features, liked, torch.ones(40), generator=torch.Generator().manual_seed(0))
    state = {**model.state_dict(), "rehearsal": {"rates": {}}}
    for name in REWARD_MODELS:
        loaded = load(name, state)
        assert (loaded is not None) == (name == kind)
        assert loaded is None or loaded.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("scores", "targets", "expected"),
    [
        ([0.1, 0.9], [0.0, 1.0], 1.0),
        ([0.9, 0.1], [0.0, 1.0], 0.0),
        ([0.5, 0.5], [0.0, 1.0], 0.5),
        ([0.5, 0.7], [1.0, 1.0], 0.5),
    ],
)
def test_auroc(scores, targets, expected):
    assert auroc(torch.tensor(scores), torch.tensor(targets)) == expected
