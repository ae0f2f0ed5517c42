"""A Tinker service may be slow, fail for a while, lose answers or forget: steps are taken once, and
training goes on from the service's checkpoints."""

from pathlib import Path

import pytest
import torch
from burnish.kernels.lora import AdapterWeights
from burnish.learner.training import checkpoint, tinker_session
from burnish.learner.training.optimiser import read_state
from burnish.learner.training.tinker import PATH, TinkerTrainer
from burnish.learner.training.tinker_errors import TrainingServiceError

from tests.learner.training.sharded_case import batch_of
from tests.learner.training.test_checkpoint import PROGRESS
from tests.learner.training.tinker.conftest import STEPS, TOLERANCE, NewTrainer, difference
from tests.learner.training.tinker.service import Failure


@pytest.fixture
def undisturbed(new_trainer: NewTrainer) -> AdapterWeights:
    trainer = new_trainer()
    for step in range(2):
        trainer.step(batch_of(step))
    return trainer.adapter


def test_a_slow_service_is_waited_for(undisturbed, model, new_trainer, service):
    service.polls_needed = 5
    trainer = new_trainer()
    for step in range(2):
        trainer.step(batch_of(step))
    assert difference(model, trainer.adapter, undisturbed) < TOLERANCE
    assert max(service.polls.values()) > 5


def test_steps_are_taken_once_though_the_service_fails_and_answers_get_lost(
    undisturbed, model, new_trainer, service
):
    trainer = new_trainer()
    for step in range(2):
        service.failures = {
            "forward_backward": Failure(503, 3),
            "optim_step": Failure(429, 2),
            "retrieve_future": Failure(500, 4),
        }
        if step:
            service.failures = {
                "forward_backward": Failure(503, 2, lost=True),
                "optim_step": Failure(500, 2, lost=True),
            }
        trainer.step(batch_of(step))
        assert not any(failure.times for failure in service.failures.values())
    service.failures = {"training_runs": Failure(502, 2), "files": Failure(500, 1)}
    assert difference(model, trainer.adapter, undisturbed) < TOLERANCE
    assert not any(failure.times for failure in service.failures.values())


def test_a_service_that_never_answers_is_given_up(new_trainer, service, monkeypatch):
    trainer = new_trainer()
    monkeypatch.setattr(tinker_session, "PATIENCE", 0.5)
    service.polls_needed = 10**9
    with pytest.raises(TrainingServiceError, match=r"log-probabilities failed: no answer within"):
        trainer.step(batch_of(0))


def test_training_goes_on_from_a_checkpoint_of_ours(model, new_trainer, service, tmp_path):
    whole = new_trainer()
    for step in range(STEPS):
        whole.step(batch_of(step))
    want = whole.adapter

    first = new_trainer()
    for step in range(2):
        first.step(batch_of(step))
    checkpoint.save(
        tmp_path / "c", PROGRESS, first.adapter, first.save_optimiser, {}, model.path.name
    )
    first.close()
    service.runs.clear()

    found = checkpoint.load(tmp_path / "c")
    assert found is not None
    second = new_trainer(adapter=found.adapter, state=found.optimiser)
    assert difference(model, second.adapter, first.adapter) == 0.0
    for step in range(2, STEPS):
        second.step(batch_of(step))
    assert difference(model, second.adapter, want) < TOLERANCE
    assert _path(found.optimiser) in service.checkpoints, "others may go on from it too"


def test_a_run_keeps_its_last_two_checkpoints(new_trainer, service, tmp_path):
    trainer = new_trainer()
    paths = []
    for step in range(4):
        trainer.step(batch_of(step))
        paths.append(_path(_saved(trainer, tmp_path)))
        assert _path(_saved(trainer, tmp_path)) == paths[-1], "the same state is saved once"
    assert set(service.checkpoints) == set(paths[-2:])
    assert service.calls["save_weights"] == 4


def _saved(trainer: TinkerTrainer, folder: Path) -> dict[str, torch.Tensor]:
    trainer.save_optimiser(folder)
    return read_state(folder)


def _path(state) -> str:
    return bytes(state[PATH].tolist()).decode()


def test_closing_ends_the_session(new_trainer, service):
    trainer = new_trainer()
    trainer.close()
    assert len(service.finished) == 1
    trainer.close()
    assert len(service.finished) == 1


def test_a_forgotten_run_is_told_and_resumed(new_trainer, service, tmp_path):
    trainer = new_trainer()
    trainer.step(batch_of(0))
    state = _saved(trainer, tmp_path)
    service.runs.clear()
    with pytest.raises(TrainingServiceError, match=r"no longer has .* a training step failed: "):
        trainer.step(batch_of(1))
    assert new_trainer(state=state).step(batch_of(1)).kl > 0, "it goes on from what was learnt"


def test_a_checkpoint_that_is_gone_is_named(new_trainer, fresh, service):
    state = {PATH: torch.tensor(list(b"tinker://run/weights/step-9"), dtype=torch.uint8)}
    with pytest.raises(TrainingServiceError, match=r"loading tinker://run/weights/step-9 failed"):
        new_trainer(adapter=fresh, state=state)
    assert len(service.finished) == 1, "its session is over"


def test_an_adapter_from_elsewhere_is_refused(new_trainer, fresh):
    trained = {name: tensor + 1 for name, tensor in fresh.tensors.items()}
    with pytest.raises(TrainingServiceError, match="takes no adapters from outside"):
        new_trainer(adapter=AdapterWeights(fresh.spec, trained))
