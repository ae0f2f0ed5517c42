"""Training: seeded, resumable, the same network in torch and numpy, and it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from burnish.learner.compactor.examples import make_examples
from burnish.learner.compactor.network import Network, pad, save
from burnish.learner.compactor.training import (
    WEIGHTS,
    CompactorTrainingConfig,
    CompactorTrainingProgress,
    TrainingError,
    policy_loss,
    sample,
    train,
)
from burnish.memory.compaction import CHOICES, Action, Decision, Scorer, pick_within_budget

TINY = CompactorTrainingConfig(
    imitation_rounds=2,
    reward_rounds=1,
    worlds=2,
    talks=1,
    chats=1,
    passes=4,
    samples=4,
    threads=1,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[CompactorTrainingProgress]]:
    folder, seen = tmp_path_factory.mktemp("run"), []
    train(
        folder,
        TINY,
        on_round=lambda config, progress: seen.append(CompactorTrainingProgress(**vars(progress))),
    )
    return folder, seen


def test_it_learns_and_leaves_a_checkpoint_that_memory_loads(run) -> None:
    folder, seen = run
    assert [progress.round for progress in seen] == [1, 2, 3]
    assert seen[1].loss < seen[0].loss
    assert Scorer.load(folder / WEIGHTS).parameters > 1000


def test_a_run_cut_short_ends_with_the_same_weights(run, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(config: CompactorTrainingConfig, progress: CompactorTrainingProgress) -> None:
        if progress.round == 2:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, TINY, on_round=kill)
    train(tmp_path, TINY)
    whole, again = Scorer.load(run[0] / WEIGHTS), Scorer.load(tmp_path / WEIGHTS)
    for name, weight in whole.weights.items():
        np.testing.assert_array_equal(weight, again.weights[name])


def test_a_folder_with_another_recipe_is_refused(run) -> None:
    with pytest.raises(TrainingError, match="--fresh"):
        train(run[0], CompactorTrainingConfig(seed=1))


def test_numpy_and_torch_give_the_same_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Network(32)
    example = next(make_examples(network.scorer(), 5))
    network.fit_scale([example.features.rows])
    save(network, tmp_path / WEIGHTS)
    with torch.no_grad():
        # Beside a longer task, so that padding shows if it leaks.
        rows, mask = pad([example.features.rows, np.tile(example.features.rows, (2, 1))])
        expected = network(rows, mask)[0, : len(example.features.rows)].numpy()
    actual = Scorer.load(tmp_path / WEIGHTS).logits(example.features.rows)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_the_fast_reward_agrees_with_the_reader_of_views() -> None:
    from burnish.learner.compactor.environment import Environment
    from burnish.learner.compactor.world_generator import make_world

    scorer = Network(16).scorer()
    environment = Environment(make_world(21, horizon=60))
    rng = np.random.default_rng(0)
    agreed = set()
    for example in make_examples(scorer, 21, horizon=60):
        # Labels with some spoilt: right and wrong answers both occur.
        for spoil in (0.0, 0.5):
            wanted = np.where(rng.random(len(example.labels[-1])) < spoil, 0, example.labels[-1])
            actions, _ = pick_within_budget(example.task, example.features, wanted, wanted)
            decisions = [
                Decision(actions.get(place, Action.DROP), 0.0, "")
                for place in range(len(environment.candidates))
            ]
            right = environment.is_correct(example.question, decisions)
            assert example.is_correct(actions) == right
            agreed.add(right)
    assert agreed == {True, False}


def test_the_policy_gradient_raises_what_was_rewarded() -> None:
    logits = torch.zeros(1, 2, len(CHOICES), requires_grad=True)
    actions = np.array([[[2, 0]], [[0, 2]]])  # two samples of one episode with two units
    advantage = np.array([[1.0, -1.0]], np.float32)
    policy_loss(logits.log_softmax(-1), torch.ones(1, 2), actions, advantage).backward()
    assert logits.grad is not None
    downhill = -logits.grad[0]
    assert downhill[0, 2] > 0 > downhill[0, 0]
    assert downhill[1, 0] > 0 > downhill[1, 2]


def test_samples_follow_the_probabilities() -> None:
    log_p = np.log(np.array([[[0.7, 0.2, 0.1]]]))
    drawn = sample(log_p, 4000, np.random.default_rng(0))
    shares = np.bincount(drawn.ravel(), minlength=3) / drawn.size
    np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.03)
