from burnish.learner.training.batching import chunks

from tests.learner.training.conftest import random_rollouts


def test_chunks_keep_every_rollout_within_the_token_budget():
    rollouts = random_rollouts(50)
    groups = list(chunks(rollouts, budget=64))
    assert sorted(map(id, (r for group in groups for r in group))) == sorted(map(id, rollouts))
    padded = [len(group) * max(len(r.sequence) for r in group) for group in groups]
    assert max(padded) <= 64
    assert max(map(len, groups)) > 1


def test_a_rollout_longer_than_the_budget_goes_alone():
    rollouts = random_rollouts(3)
    assert [len(group) for group in chunks(rollouts, budget=1)] == [1, 1, 1]
