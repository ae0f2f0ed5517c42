"""The engine on the GPU's kernels: what a request draws does not depend on which way computes it."""

import importlib.util
from pathlib import Path

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.serving.engine import LocalEngine, Request, SamplingParams

from tests.tiny_model import build_tiny_model

from .conftest import random_adapter

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="there is no triton for this machine"
)


def test_answers_are_those_of_the_pytorch_way(tmp_path: Path) -> None:
    """Equal beginnings, prompts in chunks beside decoding rows, two versions, recorded steps."""
    folder = build_tiny_model(tmp_path, "qwen3_moe", hidden_size=32, num_hidden_layers=1)
    requests = [
        Request(
            str(at),
            tuple(5 + n * 7 % 250 for n in range(1 + 7 * at)),
            SamplingParams(seed=at, max_tokens=3, temperature=at % 2, ignore_eos=True),
            [None, "p@1", "p@2"][at % 3],
        )
        for at in range(4)
    ]
    found, recorded = [], 0

    def record(run):
        nonlocal recorded
        recorded += 1
        return run

    for kernels in (False, True):
        model = load_model(folder, dtype="float32", native=False)
        if kernels:
            assert model.use_cuda(record=None if torch.cuda.is_available() else record) is None
        engine = LocalEngine(model, max_running=4, prefill_tokens=12)
        for version, rank in ((1, 2), (2, 5)):
            engine.set_adapter_weights(f"p@{version}", random_adapter(model, version, rank))
        found.append(engine.generate_batch(requests))
    for truth, ours in zip(*found, strict=True):
        assert ours.token_ids == truth.token_ids
        assert ours.logprobs == pytest.approx(truth.logprobs, abs=1e-4)
    if not torch.cuda.is_available():
        assert recorded
