"""Engines over a tiny random model, and adapters that visibly change its answers."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, LoraSpec, default_targets, init_adapter
from burnish.kernels.model import LoadedModel
from burnish.serving.engine import LocalEngine, Request, SamplingParams

Ask = Callable[..., Request]


@pytest.fixture(scope="session")
def loaded(tiny_model: Path) -> LoadedModel:
    """The model of engines that load no adapters."""
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def real_urls() -> tuple[list[str], Path]:
    urls, folder = (os.environ.get(f"BURNISH_TEST_VLLM_{name}") for name in ("URL", "MODEL"))
    if not urls or not folder:
        pytest.skip("BURNISH_TEST_VLLM_URL and BURNISH_TEST_VLLM_MODEL name no vLLM server")
    return urls.split(","), Path(folder)


@pytest.fixture
def engine(tiny_model: Path) -> LocalEngine:
    """Not started: `generate_batch` drives it."""
    return LocalEngine(tiny_model, max_running=8)


@pytest.fixture
async def running(engine: LocalEngine) -> AsyncIterator[LocalEngine]:
    await engine.start()
    yield engine
    await engine.stop(drain=False)


@pytest.fixture
def ask() -> Ask:
    """Requests with a random prompt of `length` tokens drawn from `at`."""

    def make(at: int = 0, length: int = 12, adapter: str | None = None, **params) -> Request:
        generator = torch.Generator().manual_seed(at)
        prompt = torch.randint(3, 300, (length,), generator=generator).tolist()
        params = {"seed": at, "max_tokens": 16, "ignore_eos": True, **params}
        deadline = params.pop("deadline_s", None)
        priority = params.pop("priority", 0)
        return Request(
            id=f"r{at}",
            prompt_ids=tuple(prompt),
            params=SamplingParams(**params),
            adapter=adapter,
            priority=priority,
            deadline_s=deadline,
        )

    return make


def random_adapter(model: LoadedModel, seed: int, rank: int = 4) -> AdapterWeights:
    spec = LoraSpec(rank, 2.0 * rank, default_targets(model.model))
    generator = torch.Generator().manual_seed(seed)
    fresh = init_adapter(model.model, spec, seed)
    tensors = {n: torch.randn(t.shape, generator=generator) * 0.1 for n, t in fresh.tensors.items()}
    return AdapterWeights(spec, tensors)
