"""Fitting the reward model: what it learns, how sure it is, and what it foretells of those left out."""

from dataclasses import replace

import pytest
import torch
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.fitting import FittedReward, fit, learn
from burnish.learner.reward.marginal_likelihood import aged, fit_hyperparameters, has_outdated
from burnish.learner.reward.quality import foretold, measured, quality
from burnish.serving.reward.kernel import Hyperparameters, kernel
from torch import Tensor

from tests.learner.reward.conftest import judged


def fitted(evidence: Evidence) -> FittedReward:
    return fit(evidence, evidence.ages, Hyperparameters())


def auroc(scores: Tensor, targets: Tensor) -> float:
    found = quality(scores, targets)
    assert found is not None
    return found.auroc


def joined(*parts: Evidence) -> Evidence:
    return Evidence(
        torch.cat([part.features for part in parts]),
        torch.cat([part.targets for part in parts]),
        torch.cat([part.weights for part in parts]),
        [rater for part in parts for rater in part.raters],
    )


def test_it_learns_which_style_goes_with_which_prompt():
    new, liked = judged(300, seed=1)
    assert auroc(learn(judged(300)[0]).model.mean(new.features), liked) > 0.95


def test_more_votes_make_it_surer():
    whole, _ = judged(400)
    few = fitted(judged(50)[0]).deviation(whole.features[:20])
    assert fitted(whole).deviation(whole.features[:20]).mean() < 0.9 * few.mean()


def test_votes_of_little_weight_hardly_count():
    evidence, liked = judged(300, flips=0.0)
    poisoned = replace(
        evidence,
        targets=torch.cat([evidence.targets[:150], 1 - evidence.targets[150:]]),
        weights=torch.cat([torch.ones(150), torch.full((150,), 0.05)]),
    )
    assert auroc(fitted(poisoned).model.mean(evidence.features), liked) > 0.9


@pytest.mark.parametrize("group", [1, 7])
def test_what_is_left_out_is_foretold_as_by_a_fit_without_it(group):
    evidence, _ = judged(60)
    groups = [n // group for n in range(60)]
    whole = fitted(evidence)
    held = [n for n in range(60) if groups[n] == 2]
    kept = [n for n in range(60) if groups[n] != 2]
    # Axes and mean are the whole fit's, so the kernel is too; only the judgements are missing.

    points = whole.model.judged
    covariance = kernel(points, points, whole.model.hyperparameters)
    covariance = covariance + whole.model.hyperparameters.noise * torch.eye(60)
    rest = torch.linalg.solve(covariance[kept][:, kept], evidence.targets[kept] - whole.model.prior)
    expected = whole.model.prior + covariance[held][:, kept] @ rest
    torch.testing.assert_close(whole.left_out(groups)[held], expected, atol=1e-4, rtol=1e-3)


def test_people_are_foretold_above_chance_and_noise_is_not():
    signal, _ = judged(600)
    found = foretold(fitted(signal), signal.raters)
    assert found.lower > 0.65
    noise = replace(
        signal, targets=torch.randint(2, (600,), generator=torch.manual_seed(3)).float()
    )
    guess = foretold(fitted(noise), noise.raters)
    assert abs(guess.auroc - 0.5) < 3 * guess.error


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([0.1, 0.2, 0.8, 0.9], 1.0), ([0.9, 0.8, 0.2, 0.1], 0.0), ([0.5] * 4, 0.5)],
)
def test_auroc(scores, expected):
    assert auroc(torch.tensor(scores), torch.tensor([0.0, 0.0, 1.0, 1.0])) == expected
    assert quality(torch.tensor(scores), torch.ones(4)) is None


def test_the_error_of_an_auroc_shrinks_with_the_root_of_the_votes():
    generator = torch.Generator().manual_seed(0)
    errors = []
    for count in (200, 800):
        targets = torch.randint(2, (count,), generator=generator).float()
        found = quality(targets + torch.randn(count, generator=generator), targets)
        assert found is not None
        errors.append(found.error)
    assert 1.7 < errors[0] / errors[1] < 2.3


@pytest.fixture(scope="module")
def beside_a_crowd() -> tuple[Evidence, Evidence]:
    """Votes alone, and the same among five times as many invented ones, all turned around, that caps leave little of."""
    honest, _ = judged(300)
    false, _ = judged(1500, seed=3, inverted=True)
    both = joined(honest, false)
    order = torch.randperm(len(both), generator=torch.Generator().manual_seed(0))
    heard = torch.cat([torch.ones(300), torch.full((1500,), 0.02)])
    mixed = Evidence(
        both.features[order],
        both.targets[order],
        heard[order],
        [f"{'honest' if n < 300 else n}{both.raters[n]}" for n in order.tolist()],
        heard[order],
    )
    return honest, mixed


def test_a_crowd_that_is_hardly_heard_spoils_no_fit(beside_a_crowd):
    _, mixed = beside_a_crowd
    new, liked = judged(200, seed=8)
    assert auroc(learn(mixed).model.mean(new.features), liked) > 0.9


def test_a_crowd_that_is_hardly_heard_makes_nobodys_votes_old(beside_a_crowd):
    honest, mixed = beside_a_crowd
    assert mixed.ages.max() == pytest.approx(len(honest) + 30, abs=1)
    assert torch.equal(honest.ages, torch.arange(299, -1, -1).float())


def test_a_crowd_that_is_hardly_heard_does_not_tell_how_well_others_are_foretold(beside_a_crowd):
    honest, mixed = beside_a_crowd
    alone, among = (measured(of, learn(of)) for of in (honest, mixed))
    assert among.auroc > 0.5 + 0.5 * (alone.auroc - 0.5)
    assert among.error == pytest.approx(alone.error, rel=0.25), "nor how sure that is"


def test_hyperparameters_follow_the_votes_noise():
    clean, noisy = judged(400, flips=0.0)[0], judged(400, flips=0.4)[0]
    start = Hyperparameters()
    assert fit_hyperparameters(clean, start).noise < 0.5 * fit_hyperparameters(noisy, start).noise


def test_few_votes_leave_the_defaults_about_as_they_are():
    found = fit_hyperparameters(judged(12)[0], Hyperparameters())
    assert found.prompt == pytest.approx(Hyperparameters().prompt, rel=0.4)


def test_after_a_change_of_tastes_the_new_ones_are_learnt():
    before, _ = judged(600)
    after, _ = judged(150, seed=5, inverted=True)
    both = joined(before, after)
    new, truth = judged(200, seed=6, inverted=True)
    assert auroc(learn(both).model.mean(new.features), truth) > 0.9
    assert auroc(fitted(both).model.mean(new.features), truth) < 0.5


def test_a_model_knows_whether_it_is_fitted_to_what_tastes_no_longer_are():
    before, after = judged(600)[0], judged(150, seed=5, inverted=True)[0]
    assert has_outdated(learn(joined(before, after)).model)
    assert not has_outdated(learn(before).model)


def test_steady_tastes_have_no_change_point():
    evidence, _ = judged(500)
    assert torch.equal(aged(evidence, Hyperparameters()), evidence.ages)
