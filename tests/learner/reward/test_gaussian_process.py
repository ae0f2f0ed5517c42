import torch
from burnish.learner.reward.base import auroc
from burnish.learner.reward.gaussian_process import RewardGaussianProcess
from burnish.learner.reward.reward_model import load
from torch import Tensor

SIZE = 3 * 16


def judged(count: int, flips: float = 0.2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Four kinds of prompt, two styles of answer; each kind of prompt has its liked style."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(4, (count,), generator=generator)
    styles = torch.randint(2, (count,), generator=generator)
    centres = torch.randn(6, 16, generator=torch.Generator().manual_seed(99))
    noise = 0.3 * torch.randn(count, SIZE, generator=generator)
    features = torch.cat([centres[kinds], centres[4 + styles], centres[4 + styles]], 1) + noise
    liked = (kinds % 2 == styles).float()
    flipped = (torch.rand(count, generator=generator) < flips).float()
    return features, (liked - flipped).abs(), liked


def fitted(
    features: Tensor, targets: Tensor, weights: Tensor | None = None
) -> RewardGaussianProcess:
    model = RewardGaussianProcess(SIZE)
    weights = torch.ones(len(targets)) if weights is None else weights
    model.fit(features, targets, weights, generator=torch.Generator().manual_seed(0))
    return model


def test_it_learns_which_style_goes_with_which_prompt():
    features, thumbs, _ = judged(300)
    new, _, liked = judged(300, seed=1)
    assert auroc(fitted(features, thumbs).mean(new), liked) > 0.95


def test_it_is_less_sure_of_what_is_unlike_anything_judged():
    features, thumbs, _ = judged(300)
    model = fitted(features, thumbs)
    strange = torch.randn(50, SIZE, generator=torch.Generator().manual_seed(7)) * 3
    assert model.score(strange)[1].mean() > 1.3 * model.score(features)[1].mean()


def test_more_votes_make_it_surer():
    features, thumbs, _ = judged(400)
    few, many = fitted(features[:50], thumbs[:50]), fitted(features, thumbs)
    assert many.score(features[:20])[1].mean() < few.score(features[:20])[1].mean()


def test_votes_of_little_weight_hardly_count():
    features, thumbs, liked = judged(300, flips=0.0)
    poisoned = torch.cat([thumbs[:150], 1 - thumbs[150:]])
    weights = torch.cat([torch.ones(150), torch.full((150,), 0.05)])
    assert auroc(fitted(features, poisoned, weights).mean(features), liked) > 0.9


def test_a_loaded_model_predicts_as_the_saved_one():
    features, thumbs, _ = judged(100)
    model = fitted(features, thumbs)
    again = load("gaussian_process", model.state_dict())
    assert again is not None
    torch.testing.assert_close(again.mean(features), model.mean(features))
    torch.testing.assert_close(again.mean(features), model.score(features)[0])
