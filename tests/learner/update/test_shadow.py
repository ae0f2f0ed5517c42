"""Shadow mode: what a challenger would have answered, and what people would have thought of that."""

import pytest
from burnish.learner.gate.report import Check
from burnish.learner.update.shadow import compare_in_shadow

from tests.learner.update.conftest import add_judged


@pytest.fixture
def two_versions(learner_with):
    """A learner of which versions 2 and 3 have been trained."""
    learner = learner_with()
    for numbers in (range(1, 41), range(41, 61)):
        add_judged(learner.database, numbers, users=8)
        assert learner.tick("default").why_not is None
    return learner


def test_foreseen_thumbs_are_told_against_the_champion_with_a_bound_for_each_side(two_versions):
    found = compare_in_shadow(two_versions, "default", version=3, champion=2, prompts=32)
    assert isinstance(found, Check), found
    assert found.name == "preference/champion"
    assert found.bounds is not None
    lower, upper = found.bounds
    assert lower <= found.value <= upper
    assert "against the champion" in found.says
    again = compare_in_shadow(two_versions, "default", version=3, champion=2, prompts=32)
    assert again == found, "the same question is answered alike"


def test_beside_itself_a_version_moves_nothing(two_versions):
    found = compare_in_shadow(two_versions, "default", version=2, champion=2, prompts=32)
    assert isinstance(found, Check), found
    assert (found.value, found.bounds) == (0.0, (0.0, 0.0))


def test_the_first_version_is_compared_with_the_base(two_versions):
    found = compare_in_shadow(two_versions, "default", version=2, champion=1, prompts=32)
    assert isinstance(found, Check), found
    assert found.name == "preference/base"


def test_of_few_prompts_nothing_is_said(two_versions):
    found = compare_in_shadow(two_versions, "default", version=3, champion=2, prompts=4)
    assert found == "too little was asked to compare"


def test_without_a_judgement_nothing_is_said(learner_with):
    learner = learner_with()
    learner.registry.ensure_base("default", learner.settings.model, learner.model.sha256)
    found = compare_in_shadow(learner, "default", version=1, champion=1, prompts=32)
    assert found == "no judged answer of this model is left"
