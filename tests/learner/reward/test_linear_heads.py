import pytest
import torch
from burnish.learner.reward.base import auroc
from burnish.learner.reward.linear_heads import RewardHeads


def judged(count: int, flips: float = 0.2, seed: int = 0):
    """Features whose first number decides what people like, with some thumbs flipped."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 24, generator=generator)
    liked = features[:, 0] > 0
    flipped = torch.rand(count, generator=generator) < flips
    return features, (liked ^ flipped).float(), liked.float()


def test_heads_see_through_flipped_thumbs():
    features, thumbs, _ = judged(1000)
    heads = RewardHeads(24)
    fit = heads.fit(features, thumbs, torch.ones(1000), generator=torch.Generator().manual_seed(0))
    new, _, liked = judged(500, seed=1)
    mean, _ = heads.score(new)
    assert auroc(mean, liked) > 0.9
    assert fit.auroc > 0.6


def test_heads_doubt_what_they_never_saw():
    features, thumbs, _ = judged(300)
    heads = RewardHeads(24)
    heads.fit(features, thumbs, torch.ones(300), generator=torch.Generator().manual_seed(0))
    _, near = heads.score(features)
    _, far = heads.score(features * torch.cat([torch.ones(1), torch.full((23,), 6.0)]))
    assert far.mean() > near.mean()


def test_weightless_judgements_teach_nothing():
    features, thumbs, liked = judged(1000, flips=0.0)
    poison = torch.cat([thumbs[:500], 1 - thumbs[500:]])
    weights = torch.cat([torch.ones(500), torch.zeros(500)])
    heads = RewardHeads(24)
    heads.fit(features, poison, weights, generator=torch.Generator().manual_seed(0))
    assert auroc(heads.score(features)[0], liked) > 0.9


def test_the_same_seed_fits_the_same_heads():
    features, thumbs, _ = judged(200)
    scores = []
    for _ in range(2):
        heads = RewardHeads(24, seed=3)
        heads.fit(features, thumbs, torch.ones(200), generator=torch.Generator().manual_seed(3))
        scores.append(heads.score(features)[0])
    assert torch.equal(*scores)


def test_saved_heads_score_as_before():
    features, thumbs, _ = judged(200)
    heads = RewardHeads(24)
    heads.fit(features, thumbs, torch.ones(200), generator=torch.Generator().manual_seed(0))
    again = RewardHeads.load(heads.state())
    assert torch.equal(again.score(features)[0], heads.score(features)[0])


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
