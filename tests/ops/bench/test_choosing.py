"""Among candidates the benchmarks' people are given what serving would give them."""

import torch
from burnish.kernels.loading import load_model
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.fitting import learn
from burnish.learner.training.rollouts import Rollout
from burnish.ops.bench.lib.choosing import features_of, given_of
from burnish.ops.bench.lib.everyday_prompts import Prompt
from burnish.ops.bench.lib.learning_loop import Answer

ASKED = Prompt("any", "Say anything.")


def answer(tokens: tuple[int, ...]) -> Answer:
    return Answer(ASKED, Rollout((5, 6, 7), tokens, (-1.0,) * len(tokens)), "stop")


def test_without_a_reward_model_the_first_is_given_and_with_one_what_is_liked(tiny_model):
    model = load_model(tiny_model)
    liked, other = answer((40, 41, 42)), answer((90, 91))
    given = [[other, liked], [liked, other]] * 12
    features = features_of(model, [[liked, other] * 20])
    votes = torch.tensor([1.0, 0.0] * 20)
    reward = learn(Evidence(features, votes, torch.ones(40), [f"u{n}" for n in range(40)])).model
    assert given_of(model, None, given, seed=0) == [group[0] for group in given]
    assert given_of(model, reward, given, seed=0) == [liked] * len(given)
