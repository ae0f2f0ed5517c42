"""A Tinker trainer whose service is the stand-in, and what its adapters are compared by."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, LoraSpec, init_adapter, lora_targets
from burnish.kernels.model import LoadedModel
from burnish.learner.settings import LearnerSettings
from burnish.learner.training.protocol import Trainer
from burnish.learner.training.rollouts import Rollout, generate
from burnish.learner.training.tinker import TinkerTrainer, open_connection
from burnish.learner.training.trainer import TrainerConfig
from burnish.serving.engine import LocalEngine, Request, SamplingParams
from pydantic import SecretStr

from tests.learner.training.tinker.service import ALPHA, BASE, KEY, Service
from tests.learner.training.tinker.standin import Standin
from tests.tiny_model import build_tiny_model

RANK, STEPS = 4, 4
TOLERANCE = 1e-4  # relative, of the norm of the whole change of the model; measured: 2e-6
CONFIG = TrainerConfig(learning_rate=1e-2, clip_norm=0.5, kl_weight=0.0, kl_budget=10.0)

NewTrainer = Callable[..., TinkerTrainer]


@pytest.fixture(scope="module", params=["qwen3_moe"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tinker"), request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    return load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def their_model(folder: Path) -> LoadedModel:
    return load_model(folder, device="cpu", native=False)


@pytest.fixture
def standin(their_model: LoadedModel) -> Iterator[Standin]:
    made = Standin(Service(their_model))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def service(standin: Standin) -> Service:
    return standin.service


@pytest.fixture
def settings(standin: Standin) -> LearnerSettings:
    return LearnerSettings(tinker_url=standin.url, tinker_key=SecretStr(KEY), tinker_model=BASE)


@pytest.fixture
def fresh(model: LoadedModel) -> AdapterWeights:
    return init_adapter(model.outline, LoraSpec(RANK, ALPHA), seed=0)


@pytest.fixture
def new_trainer(
    settings: LearnerSettings, model: LoadedModel, fresh: AdapterWeights
) -> Iterator[NewTrainer]:
    made: list[TinkerTrainer] = []

    def make(config: TrainerConfig = CONFIG, adapter: AdapterWeights = fresh, state=None):
        connection = open_connection(settings)
        made.append(TinkerTrainer(model, adapter, config, connection, state))
        return made[-1]

    yield make
    for trainer in made:
        trainer.close()


@pytest.fixture(scope="module")
def engine(model: LoadedModel) -> LocalEngine:
    return LocalEngine(model, max_running=64)


def changes(model: LoadedModel, weights: AdapterWeights) -> torch.Tensor:
    """What an adapter adds to the model's parameters, as one vector."""
    added = []
    for target in sorted(lora_targets(model.outline, weights.spec.targets), key=lambda t: t.name):
        a, b = (weights.tensors[f"{target.name}.lora_{x}.weight"].detach() for x in "AB")
        a, b = target.unpack(a, b, weights.spec.rank)
        added.append((weights.spec.scale * b @ a).flatten())
    return torch.cat(added)


def difference(model: LoadedModel, got: AdapterWeights, want: AdapterWeights) -> float:
    """Of the changes of the model, relative to the wanted one."""
    wanted = changes(model, want)
    return float((changes(model, got) - wanted).norm() / wanted.norm())


def sample(engine: LocalEngine, trainer: Trainer, count: int = 48, seed: int = 0) -> list[Rollout]:
    """Answers of our own engine under the trainer's present adapter."""
    engine.set_adapter_weights("present", trainer.adapter)
    requests = [
        Request(f"{i}", (30 + i, 31, 32), SamplingParams(max_tokens=6, seed=seed + i), "present")
        for i in range(count)
    ]
    rollouts = generate(engine, requests)
    engine.unload_adapter("present")
    return rollouts
