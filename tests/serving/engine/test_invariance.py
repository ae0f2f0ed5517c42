"""A seeded request gives the same tokens alone and among 31 others, whichever way the model runs."""

from pathlib import Path
from typing import Any

import pytest
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from burnish.serving.engine import LocalEngine, Request, SamplingParams

from tests.conftest import missing
from tests.tiny_model import build_tiny_model

from .conftest import random_adapter

WAYS = ["reference", "float32", "bfloat16", "int8", "int4"]
SAMPLING: list[dict[str, Any]] = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.7, "top_p": 0.9},
    {"top_k": 5, "min_p": 0.05},
    {"frequency_penalty": 0.4, "logprobs": 2},
]


def load(folder: Path, way: str) -> LoadedModel:
    if way == "reference":
        return load_model(folder, native=False)
    model = load_model(folder, weights=way)  # type: ignore[arg-type]
    if model.native is None:
        missing("no native library: a C++ compiler is needed")
    return model


def crowd(adapter: str | None) -> list[Request]:
    """32 requests of every kind, some with the same beginning."""
    return [
        Request(
            str(at),
            tuple(5 + (at % 20 * 31 + n * 7) % 250 for n in range(1 + 5 * (at % 9))),
            SamplingParams(seed=at, max_tokens=12, ignore_eos=True, **SAMPLING[at % 5]),
            adapter if at % 3 else None,
        )
        for at in range(32)
    ]


@pytest.mark.parametrize("way", WAYS)
def test_alone_or_in_a_crowd(tiny_model: Path, way: str) -> None:
    engine = LocalEngine(load(tiny_model, way), max_running=32)
    engine.set_adapter_weights("p@2", random_adapter(engine.model, 2))
    requests = crowd("p@2")
    together = engine.generate_batch(requests)
    for request, among in list(zip(requests, together, strict=True))[::3]:
        alone = LocalEngine(engine.model, max_running=1)  # nothing in its cache
        alone._adapters = engine._adapters  # the same versions in the same slots
        (answer,) = alone.generate_batch([request])
        assert answer.token_ids == among.token_ids
        assert answer.logprobs == pytest.approx(among.logprobs, abs=1e-4)


@pytest.mark.parametrize("family", ["gpt_oss", "deepseek_v3", "glm4_moe"])
def test_families_of_other_kinds(family: str, tmp_path: Path) -> None:
    engine = LocalEngine(load_model(build_tiny_model(tmp_path, family)), max_running=32)
    engine.set_adapter_weights("p@2", random_adapter(engine.model, 2))
    requests = crowd("p@2")
    together = engine.generate_batch(requests)
    for request, among in list(zip(requests, together, strict=True))[::5]:
        alone = LocalEngine(engine.model, max_running=1)
        alone._adapters = engine._adapters
        (answer,) = alone.generate_batch([request])
        assert answer.token_ids == among.token_ids


def test_a_running_state_is_neither_shared_nor_lost(tmp_path: Path) -> None:
    """Chunks, equal beginnings, adapters, and rows that are preempted and reused by others."""
    model = load_model(build_tiny_model(tmp_path, "qwen3_next"))
    tight = LocalEngine(model, max_running=3, num_blocks=5, prefill_tokens=16)
    tight.set_adapter_weights("p@2", random_adapter(model, 2))
    requests = [
        Request(
            str(at),
            tuple(range(5, 30 + at)),
            SamplingParams(seed=at, max_tokens=16, ignore_eos=True),
            name,
        )
        for at, name in enumerate([None, "p@2", None, "p@2"])
    ]
    together = tight.generate_batch(requests)
    stats = tight.stats()
    assert stats.preempted_total > 0
    assert stats.reused_total == stats.drafted_total == 0
    for request, among in zip(requests, together, strict=True):
        roomy = LocalEngine(model, max_running=1)
        roomy._adapters = tight._adapters
        assert roomy.generate_batch([request])[0].token_ids == among.token_ids
