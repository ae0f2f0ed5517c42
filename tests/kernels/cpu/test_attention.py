"""Native attention over prompts of several blocks of keys: PyTorch's results, and the same ones to the last bit
however a prompt is cut into steps."""

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from burnish.kernels.forward_batch import ForwardBatch
from burnish.kernels.model import LoadedModel
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.random_models import NO_TOKENIZER, build, config_of

pytestmark = pytest.mark.usefixtures("native_library")

LENGTH, ROOM = 300, 320  # of a prompt, and of its row's cache
MORE: dict[str, dict[str, Any]] = {
    "qwen3": {"intermediate_size": 32},
    "mistral": {"intermediate_size": 32, "sliding_window": 70},
    "gpt_oss": {  # sinks; a window in every other layer
        "intermediate_size": 32,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 130,
    },
    "deepseek_v3": {  # MLA
        "intermediate_size": 32,
        "first_k_dense_replace": 2,
        "n_routed_experts": 4,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 16,
        "q_lora_rank": 32,
        "kv_lora_rank": 48,
        "qk_rope_head_dim": 10,
        "v_head_dim": 16,
    },
}


def model_of(family: str, heads: tuple[int, int] = (6, 2)) -> tuple[LoadedModel, LoadedModel]:
    config = config_of(family, 96 if heads[0] == 6 else 64, heads, 16, **MORE[family])
    config.max_position_embeddings = ROOM
    return build(config, 3)


def tokens_of(rows: int, length: int = LENGTH) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, 77, (rows, length))


def table_of(rows: int) -> np.ndarray:
    """Pages of the rows interleave."""
    pages = np.random.default_rng(rows).permutation(rows * ROOM // 16).reshape(rows, -1, 1)
    return (pages * 16 + np.arange(16)).reshape(rows, ROOM)


def batch_of(tokens: np.ndarray, pieces: list[tuple[int, int, int]]) -> ForwardBatch:
    """One step of pieces (row, first position, end), all of whose tokens are kept."""
    pieces = sorted(pieces, key=lambda piece: piece[2] - piece[1] != 1)
    rows, starts, ends = np.array(pieces).T
    total = int((ends - starts).sum())
    flat = np.concatenate([tokens[row, begin:end] for row, begin, end in pieces])
    return ForwardBatch(flat, rows, starts, ends - starts, np.zeros_like(rows), np.arange(total))


def run(
    model: LoadedModel, tokens: np.ndarray, steps: list[list[tuple[int, int, int]]], pages: Any
) -> torch.Tensor:
    """Logits [row, position, vocab] of prompts that are read in those steps."""
    table = table_of(len(tokens))
    found = torch.zeros(*tokens.shape, 77)
    for pieces in steps:
        batch = batch_of(tokens, pieces)
        logits, _ = model.step(batch, table, pages)
        assert logits is not None
        found[batch.row, batch.position] = logits[:, :77]
    return found


@pytest.mark.parametrize(
    ("family", "heads"),
    [
        ("qwen3", (2, 2)),
        ("qwen3", (6, 2)),
        ("qwen3", (8, 2)),
        ("qwen3", (8, 1)),
        ("qwen3", (28, 1)),  # more than a tile has
        ("mistral", (6, 2)),
        ("gpt_oss", (8, 2)),
        ("deepseek_v3", (28, 28)),
    ],
)
def test_long_prompts_equal_pytorchs(family: str, heads: tuple[int, int]) -> None:
    tokens = tokens_of(2)
    whole = [[(0, 0, LENGTH), (1, 0, 40)], [(1, 40, LENGTH)]]
    expected, got = (
        run(model, tokens, whole, model.new_pages(2 * ROOM)) for model in model_of(family, heads)
    )
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("family", MORE)
def test_an_int8_cache_moves_logits_by_little(family: str) -> None:
    _, model = model_of(family)
    tokens, steps = tokens_of(2), [[(0, 0, LENGTH), (1, 0, 40)], [(1, 40, LENGTH)]]
    expected = run(model, tokens, steps, model.new_pages(2 * ROOM))
    size = model.cache_bytes(ROOM)
    model.cache = "int8"
    got = run(model, tokens, steps, model.new_pages(2 * ROOM))
    assert 0 < float((got - expected).std()) < 0.02 * float(expected.std())
    assert model.cache_bytes(ROOM) < size / 2


@pytest.fixture(scope="module", params=[*MORE, "bfloat16", "int8", "int8 latents"])
def whole(request: pytest.FixtureRequest) -> tuple[LoadedModel, torch.Tensor]:
    """A model, and the logits of a prompt that it reads in one step."""
    if request.param.startswith("int8"):
        _, model = model_of("deepseek_v3" if "latents" in request.param else "mistral")
        model.cache = "int8"
    elif request.param == "bfloat16":
        slow, _ = model_of("mistral")
        model = LoadedModel(copy.deepcopy(slow.model).bfloat16(), NO_TOKENIZER, Path(), "")
        assert model.use_native() is None
    else:
        _, model = model_of(request.param)
    pages = model.new_pages(2 * ROOM)
    return model, run(model, tokens_of(2), [[(0, 0, LENGTH)]], pages)[0]


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.sets(st.integers(1, LENGTH - 1), max_size=6),
    decoded=st.integers(0, 9),
    other=st.integers(1, LENGTH),
    threads=st.sampled_from([1, 2, 3, 8]),
)
def test_a_prompt_may_be_cut_anywhere(whole, cuts, decoded, other, threads) -> None:
    """Bit by bit, its last tokens one by one as in decoding, next to another row, on any number of threads,
    and in a cache full of NaN."""
    model, expected = whole
    edges = sorted({0, *cuts, *range(LENGTH - decoded, LENGTH), LENGTH})
    steps = [[(0, a, b)] for a, b in pairwise(edges)]
    steps[-1].append((1, 0, other))
    pages = model.new_pages(2 * ROOM)
    for cache in (pages.key, pages.value):
        cache.fill_(255)  # a float of such bytes is NaN
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = run(model, tokens_of(2), steps, pages)[0]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, expected)
