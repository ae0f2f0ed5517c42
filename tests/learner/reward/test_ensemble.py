import torch
from burnish.learner.reward.base import auroc
from burnish.learner.reward.ensemble import RewardEnsemble


def judged(count: int, flips: float = 0.2, seed: int = 0):
    """Features whose first number decides what people like, with some thumbs flipped."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 24, generator=generator)
    liked = features[:, 0] > 0
    flipped = torch.rand(count, generator=generator) < flips
    return features, (liked ^ flipped).float(), liked.float()


def test_the_ensemble_learns_in_spite_of_flipped_thumbs():
    features, thumbs, _ = judged(1000)
    ensemble = RewardEnsemble(24)
    fit = ensemble.fit(
        features, thumbs, torch.ones(1000), generator=torch.Generator().manual_seed(0)
    )
    new, _, liked = judged(500, seed=1)
    mean, _ = ensemble.score(new)
    assert auroc(mean, liked) > 0.9
    assert fit.auroc > 0.6


def test_the_ensemble_is_less_sure_far_from_what_was_judged():
    features, thumbs, _ = judged(300)
    ensemble = RewardEnsemble(24)
    ensemble.fit(features, thumbs, torch.ones(300), generator=torch.Generator().manual_seed(0))
    _, near = ensemble.score(features)
    _, far = ensemble.score(features * torch.cat([torch.ones(1), torch.full((23,), 6.0)]))
    assert far.mean() > near.mean()


def test_weightless_judgements_teach_nothing():
    features, thumbs, liked = judged(1000, flips=0.0)
    poison = torch.cat([thumbs[:500], 1 - thumbs[500:]])
    weights = torch.cat([torch.ones(500), torch.zeros(500)])
    ensemble = RewardEnsemble(24)
    ensemble.fit(features, poison, weights, generator=torch.Generator().manual_seed(0))
    assert auroc(ensemble.score(features)[0], liked) > 0.9


def test_the_same_seed_fits_the_same_ensemble():
    features, thumbs, _ = judged(200)
    scores = []
    for _ in range(2):
        ensemble = RewardEnsemble(24, seed=3)
        ensemble.fit(features, thumbs, torch.ones(200), generator=torch.Generator().manual_seed(3))
        scores.append(ensemble.score(features)[0])
    assert torch.equal(*scores)


def test_a_loaded_ensemble_scores_as_the_saved_one():
    features, thumbs, _ = judged(200)
    ensemble = RewardEnsemble(24)
    ensemble.fit(features, thumbs, torch.ones(200), generator=torch.Generator().manual_seed(0))
    again = RewardEnsemble.load(ensemble.state_dict())
    assert torch.equal(again.score(features)[0], ensemble.score(features)[0])
