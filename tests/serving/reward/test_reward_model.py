"""The reward model as serving loads it: means, draws, and how it fades."""

import torch
from burnish.learner.reward.fitting import FittedReward, fit
from burnish.serving.reward.kernel import Hyperparameters
from burnish.serving.reward.reward_model import RewardModel

from tests.learner.reward.conftest import judged


def fitted(count: int = 200, **changes: float) -> FittedReward:
    evidence, _ = judged(count)
    return fit(evidence, evidence.ages, Hyperparameters(**changes))


def test_a_loaded_model_expects_and_draws_what_the_saved_one_does():
    model = fitted().model
    again = RewardModel.load({**model.state_dict(), "rehearsal": {}})
    new, _ = judged(50, seed=1)
    assert again is not None
    assert again.size == model.size
    torch.testing.assert_close(again.mean(new.features), model.mean(new.features))
    torch.testing.assert_close(again.draw(new.features, 3), model.draw(new.features, 3))


def test_nothing_is_loaded_where_nothing_was_saved():
    assert RewardModel.load({"rehearsal": {}}) is None


def test_draws_scatter_about_the_mean_as_widely_as_the_posterior():
    found = fitted(100)
    strange, _ = judged(60, seed=2, noise=1.5)
    features = strange.features
    draws = torch.stack([found.model.draw(features, n) for n in range(found.model.draws)])
    bias = (draws.mean(0) - found.model.mean(features)).abs().mean()
    spread = draws.std(0).mean() / found.deviation(features).mean()
    assert bias < 0.2 * found.deviation(features).mean()
    assert 0.85 < float(spread) < 1.15


def test_a_draw_is_one_function():
    model = fitted().model
    features = judged(40, seed=1)[0].features
    whole, part = model.draw(features, 5), model.draw(features[10:20], 5)
    torch.testing.assert_close(whole[10:20], part, atol=1e-5, rtol=1e-4)


def test_it_is_the_surer_the_more_votes_say_the_same():
    new, liked = judged(200, seed=1)
    better, worse = new.features[liked > 0.5][:60], new.features[liked < 0.5][:60]
    few, many = (fitted(count).model.certainty(better, worse) for count in (40, 400))
    assert many.abs().max() <= 1
    assert many.mean() > few.mean() + 0.1
    assert many.mean() > 0.6
    torch.testing.assert_close(fitted(40).model.certainty(worse, better), -few)


def test_support_is_near_one_for_what_was_judged_and_small_for_the_strange():
    model = fitted().model
    known, _ = judged(200)
    strange = known.features.flip(1) * 5
    assert model.support(known.features).mean() > 0.9
    assert model.support(strange).mean() < 0.5 * model.support(known.features).mean()


def test_judgements_of_long_ago_count_less_where_tastes_fade():
    before, liked = judged(200)
    after = before.features[:40]
    for fading, still in ((1e-6, True), (0.1, False)):
        ages = before.ages + 500
        model = fit(before, ages, Hyperparameters(fading=fading)).model
        apart = (
            model.mean(after)[liked[:40] > 0.5].mean() - model.mean(after)[liked[:40] < 0.5].mean()
        )
        assert (float(apart) > 0.2) is still
