"""The native library reads and writes nothing that a step's input points to from outside."""

from typing import Any

import numpy as np
import pytest
import torch
from burnish.kernels.forward_batch import SAMPLING_DTYPE, ForwardBatch, SamplingMetadata
from burnish.kernels.model import LoadedModel

from tests.kernels.random_models import build, config_of

pytestmark = pytest.mark.usefixtures("native_library")

TABLE = np.arange(64, dtype=np.int64).reshape(2, 32)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return build(config_of("qwen3", 32, (4, 2), 16), 0)[1]


def one_token(**wrong: Any) -> ForwardBatch:
    parts = {
        "tokens": 5,
        "rows": 1,
        "starts": 31,
        "counts": 1,
        "slots": 0,
        "keep": 0,
    } | wrong
    return ForwardBatch(**{name: np.array([value]) for name, value in parts.items()})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"tokens": 77}, "token"),
        ({"tokens": -1}, "token"),
        ({"rows": 2}, "row"),
        ({"rows": -1}, "row"),
        ({"starts": 32}, "position"),
        ({"starts": -1}, "position"),
        ({"slots": 1}, "adapter slot"),
        ({"slots": -1}, "adapter slot"),
        ({"keep": 1}, "kept token"),
    ],
)
def test_a_step_that_points_outside_is_refused(
    model: LoadedModel, wrong: dict[str, int], told: str
) -> None:
    pages = model.new_pages(TABLE.size)
    model.step(one_token(), TABLE, pages)
    with pytest.raises(IndexError, match=told):
        model.step(one_token(**wrong), TABLE, pages)


def test_a_table_that_points_outside_the_cache_is_refused(model: LoadedModel) -> None:
    pages = model.new_pages(TABLE.size - 16)
    with pytest.raises(IndexError, match="cache slot"):
        model.step(one_token(), TABLE, pages)


@pytest.mark.parametrize(("start", "fits"), [(28, True), (29, False)])
def test_all_steps_of_a_burst_have_to_fit(model: LoadedModel, start: int, fits: bool) -> None:
    sampling = SamplingMetadata(
        params=np.array([(1.0, 1.0, 0.0, 0, 3)], SAMPLING_DTYPE),
        skip=np.zeros(1, bool),
        num_generated=np.zeros(1, np.uint64),
        max_new_tokens=np.array([4]),
        is_eos=np.zeros(77, bool),
        ignore_eos=np.ones(1, bool),
        steps=8,
    )
    pages = model.new_pages(TABLE.size)
    batch = one_token(starts=start)
    if fits:
        _, output = model.step(batch, TABLE, pages, sampling)
        assert output is not None
        assert output.counts.tolist() == [4]
    else:
        with pytest.raises(IndexError, match="position"):
            model.step(batch, TABLE, pages, sampling)


def test_positions_beyond_the_models_context_are_refused(model: LoadedModel) -> None:
    table = np.arange(320, dtype=np.int64)[None]  # its context is 256
    pages = model.new_pages(320)
    model.step(one_token(rows=0, starts=255), table, pages)
    with pytest.raises(IndexError, match="position"):
        model.step(one_token(rows=0, starts=256), table, pages)
    with pytest.raises(IndexError, match="position"):
        model.read([[5] * 300], [1])


@pytest.mark.parametrize("family", ["qwen3", "gpt_oss", "deepseek_v3"])
def test_rope_reaches_as_far_as_a_long_context(family: str) -> None:
    config = config_of(family, 32, (4, 2), 16)
    config.max_position_embeddings = 40_000
    models = build(config, 1)
    table = np.arange(40_000, dtype=np.int64)[None]
    batch = one_token(rows=0, starts=39_990)
    logits = [model.step(batch, table, model.new_pages(table.size))[0] for model in models]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-4, rtol=1e-3)
