"""Whole models on the CUDA kernels give PyTorch's logits, recorded or not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from burnish.kernels.cuda.graphs import CannotRecord
from burnish.kernels.forward_batch import ForwardBatch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, LoraSpec, default_targets, init_adapter
from burnish.kernels.model import LoadedModel
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny_model import build_tiny_model

# What makes the host wait for the device, or cannot be recorded.
WAITS = ("_local_scalar_dense", "nonzero", "item", "is_nonzero", "equal", "masked_select", "unique")
TABLE = np.random.default_rng(0).permutation(12).reshape(3, 4, 1) * 16 + np.arange(16)
TABLE = TABLE.reshape(3, 64)


def batch(starts: list[int], counts: list[int], slots: list[int], seed: int = 0) -> ForwardBatch:
    total = sum(counts)
    tokens = np.random.default_rng(seed).integers(3, 300, total)
    rows, first, count, slot = map(np.array, ([2, 0, 1][: len(starts)], starts, counts, slots))
    return ForwardBatch(tokens, rows, first, count, slot, np.arange(total))


def adapter(model: LoadedModel, rank: int) -> AdapterWeights:
    spec = LoraSpec(rank, 2.0 * rank, default_targets(model.model))
    generator = torch.Generator().manual_seed(rank)
    fresh = init_adapter(model.model, spec, rank).tensors
    tensors = {n: torch.randn(t.shape, generator=generator) * 0.1 for n, t in fresh.items()}
    return AdapterWeights(spec, tensors)


class Again:
    """A recorder that calls the function again, over the same buffers."""

    made = replayed = 0

    def __call__(self, run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        self.made += 1

        def replay() -> torch.Tensor:
            self.replayed += 1
            return run()

        return replay


class Watch(TorchDispatchMode):
    """Refuses whatever waits for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        assert str(func.name()).removeprefix("aten::").split(".")[0] not in WAITS, func.name()
        return func(*args, **(kwargs or {}))


LAYERS = {"qwen3_moe": 1, "gpt_oss": 2, "deepseek_v3": 2, "llama": 1}


def tiny(folder: Path, family: str) -> Path:
    return build_tiny_model(folder, family, hidden_size=32, num_hidden_layers=LAYERS[family])


@pytest.fixture(scope="module", params=LAYERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp(request.param), request.param)


Cached = tuple[LoadedModel, Any]  # a model and its cache


def both_backends(folder: Path, device: torch.device, **options: Any) -> list[Cached]:
    """A model on PyTorch and on the kernels, with the same adapters of different ranks."""
    models = [load_model(folder, dtype="float32", device=str(device), native=False) for _ in "ab"]
    assert models[1].use_cuda(**options) is None
    for model in models:
        for slot, rank in ((1, 3), (2, 8)):
            model.set_adapter(slot, adapter(model, rank))
    return [(model, model.new_pages(TABLE.size)) for model in models]


def compare(backends: list[Cached], batches: list[ForwardBatch]) -> None:
    for one in batches:
        truth, ours = (model.step(one, TABLE, pages)[0] for model, pages in backends)
        assert truth is not None
        torch.testing.assert_close(ours, truth, atol=1e-4, rtol=0)


def test_prompts_and_decode_with_mixed_adapters(folder: Path, device: torch.device) -> None:
    again = Again()
    compare(
        both_backends(folder, device, record=again),
        [
            batch([0, 0, 0], [11, 3, 4], [0, 2, 1]),
            batch([11, 3, 4], [1, 9, 2], [0, 2, 1]),  # everything in one step
            batch([12, 12, 6], [1, 1, 1], [0, 2, 1]),
            batch([13, 13, 7], [1, 1, 1], [0, 2, 1], seed=1),
            batch([14, 14], [1, 1], [0, 0]),
        ],
    )
    assert (again.made, again.replayed) == (2, 3)  # with adapters, and without


def test_a_slot_filled_anew_shows_in_what_was_recorded(tmp_path: Path, device) -> None:
    again = Again()
    backends = both_backends(tiny(tmp_path, "llama"), device, record=again)
    decode = batch([0, 0], [1, 1], [1, 2])
    compare(backends, [decode])
    for model, _ in backends:
        model.set_adapter(1, adapter(model, 6))
    compare(backends, [decode])
    assert again.made == 1
    for model, _ in backends:
        model.set_adapter(1, None)  # nobody's slot now: the base
        model.set_adapter(1 << 20, adapter(model, 9))  # a larger rank
    compare(backends, [decode, batch([0, 0], [1, 1], [1 << 20, 1])])
    assert again.made == 2
    for model, _ in backends:
        for slot in range(3, 20):  # more than there was room for
            model.set_adapter(slot, adapter(model, 2))
    compare(backends, [decode, batch([0, 0], [1, 1], [1 << 20, 19])])
    assert again.made == 3


def test_a_model_that_cannot_be_recorded_decodes_without(tmp_path: Path, device, caplog) -> None:
    def refuse(run):
        raise CannotRecord("operation not permitted")

    backends = both_backends(tiny(tmp_path, "llama"), device, record=refuse)
    compare(backends, [batch([0, 0], [1, 1], [1, 2]), batch([1, 1], [1, 1], [1, 2])])
    assert caplog.text.count("operation not permitted") == 1


@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss", "deepseek_v3"])
def test_a_decode_step_never_waits_for_the_device(family: str, tmp_path: Path, device) -> None:
    watched = []

    def record(run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        run()  # kernels are compiled
        with Watch():
            watched.append(run())
        return run

    model, pages = both_backends(tiny(tmp_path, family), device, record=record)[1]
    model.step(batch([0, 0, 0], [1, 1, 1], [0, 2, 1]), TABLE, pages)
    assert len(watched) == 1


def test_adapters_in_training_run_through_pytorch(tiny_model: Path, device) -> None:
    backends = both_backends(tiny_model, device)
    live = adapter(backends[1][0], 4).trainable()
    for model, _ in backends:
        model.set_adapter(1, live)
    compare(backends, [batch([0, 0], [4, 5], [1, 2]), batch([4, 5], [1, 1], [1, 2])])


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_quantised_experts_stay_near_and_leave_training_exact(weights, tmp_path, device) -> None:
    shape = {"num_hidden_layers": 1, "moe_intermediate_size": 64}
    folder = build_tiny_model(tmp_path, "qwen3_moe", **shape)
    backends = both_backends(folder, device, weights=weights)
    plain, rough = (model for model, _ in backends)
    tokens = torch.randint(3, 300, (2, 9), device=device)
    assert torch.equal(plain.forward(tokens, slot=1), rough.forward(tokens, slot=1))
    one = batch([0, 0], [3, 5], [1, 0])
    logits = [model.step(one, TABLE, pages)[0] for model, pages in backends]
    gap = (logits[0] - logits[1]).abs().max()  # type: ignore[operator]
    assert 1e-4 < gap < {"int8": 0.1, "int4": 1.0}[weights]


def test_recordings_are_left_out_where_rope_depends_on_the_length(tmp_path: Path, device) -> None:
    for kind in ("default", "dynamic"):
        rope = {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0}
        folder = build_tiny_model(tmp_path / kind, "llama", rope_parameters=rope)
        again = Again()
        model = load_model(folder, device=str(device), native=False)
        model.use_cuda(record=again)
        model.step(batch([0, 0], [1, 1], [0, 0]), TABLE, model.new_pages(TABLE.size))
        assert again.made == (1 if kind == "default" else 0)
