"""The native step against PyTorch's: the same logits for every shape of model and batch, and for every
mix of adapters in it."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from burnish.kernels.cpu.step import NativeStep
from burnish.kernels.forward_batch import SAMPLING_DTYPE, ForwardBatch, SamplingMetadata
from burnish.kernels.lora import ATTENTION, DENSE, EXPERTS, LATENT
from burnish.kernels.model import LoadedModel
from burnish.kernels.rounding import to_int4, to_int8
from burnish.serving.engine.sampler import Sampler
from burnish.serving.engine.types import SamplingParams
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen3Config

from tests.kernels.random_models import FAMILIES, MLA, NO_TOKENIZER, adapter_of, build, config_of

pytestmark = pytest.mark.usefixtures("native_library")

ROOM = 48  # positions a row may hold
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 8.0,
    "mscale": 0.7,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 32,
}


def table_of(rows: int) -> np.ndarray:
    """Pages of the rows interleave, so that a mistake in the table would show."""
    pages = np.random.default_rng(rows).permutation(rows * ROOM // 16).reshape(rows, -1, 1)
    return (pages * 16 + np.arange(16)).reshape(rows, ROOM)


def batches(pieces: list[tuple[int, int]], slots: list[int], seed: int) -> list[ForwardBatch]:
    """Two steps: what is `cached` of each row, then its `new` tokens, all of them kept."""
    rng = np.random.default_rng(seed)
    order = sorted(range(len(pieces)), key=lambda i: pieces[i][1] != 1)
    cached, new = (np.array([pieces[i][side] for i in order]) for side in (0, 1))
    rows, kinds = np.array(order), np.array([slots[i] for i in order])

    def batch(starts: np.ndarray, counts: np.ndarray) -> ForwardBatch:
        some = counts > 0
        total = int(counts.sum())
        return ForwardBatch(
            rng.integers(0, 77, total),
            rows[some],
            starts[some],
            counts[some],
            kinds[some],
            np.arange(total),
        )

    by_length = cached != 1  # single tokens first, here as well
    first = np.argsort(by_length, kind="stable")
    before = ForwardBatch(
        rng.integers(0, 77, int(cached.sum())),
        rows[first][cached[first] > 0],
        np.zeros(int((cached > 0).sum()), np.int64),
        cached[first][cached[first] > 0],
        kinds[first][cached[first] > 0],
        np.arange(cached.sum()),
    )
    return [before, batch(cached, new)]


@settings(max_examples=40, deadline=None)
@given(
    family=st.sampled_from(FAMILIES),
    hidden=st.sampled_from([32, 96]),
    heads=st.sampled_from([(2, 1), (4, 2), (6, 1), (4, 4)]),
    width=st.sampled_from([16, 32]),
    inner=st.sampled_from([16, 40]),
    crowd=st.sampled_from([(3, 1), (8, 2), (5, 4)]),
    window=st.sampled_from([None, 3, 17]),
    pieces=st.lists(
        st.tuples(st.integers(0, 20), st.one_of(st.just(1), st.integers(1, 20))),
        min_size=1,
        max_size=11,
    ),
    ranks=st.lists(st.sampled_from([1, 4, 16, 20]), max_size=2),
    targets=st.sampled_from([None, ATTENTION, EXPERTS + DENSE]),
    seed=st.integers(0, 99),
)
def test_a_step_equals_pytorchs(
    family, hidden, heads, width, inner, crowd, window, pieces, ranks, targets, seed
) -> None:
    if family == "olmoe":
        hidden = 16 * heads[0]  # its heads share it
    if hidden % heads[0] or hidden % 32:
        hidden = 96
    more: dict[str, Any] = {"intermediate_size": inner, "tie_word_embeddings": seed % 4 == 1}
    if family in ("qwen3_moe", "olmoe"):
        more |= {"num_experts": crowd[0], "num_experts_per_tok": crowd[1]}
    if family == "qwen3_moe":
        more |= {"moe_intermediate_size": inner, "norm_topk_prob": bool(seed % 2)}
    if family == "olmoe":
        more |= {"clip_qkv": 0.7 if seed % 2 else None}
    if family == "mixtral":
        more |= {"num_local_experts": crowd[0], "num_experts_per_tok": crowd[1]}
    if family == "glm4_moe":
        groups = 2 if crowd == (8, 2) else 1
        more |= {
            "n_routed_experts": crowd[0],
            "num_experts_per_tok": crowd[1],
            "moe_intermediate_size": inner,
            "n_shared_experts": 1 + seed % 2,
            "first_k_dense_replace": seed % 2,
            "n_group": groups,
            "topk_group": 1,
            "norm_topk_prob": bool(seed % 3),
            "routed_scaling_factor": 1.5,
            "use_qk_norm": bool(seed % 2),
            "attention_bias": bool(seed % 3),
        }
        if targets:
            targets = tuple(t for t in targets if t not in DENSE)
    if family in MLA:
        more |= {
            "q_lora_rank": None if seed % 3 else 48,
            "kv_lora_rank": 48 if seed % 2 else 16,
            "qk_rope_head_dim": 8 if seed % 5 else 10,
            "v_head_dim": inner,
            "rope_interleave": bool(seed % 7),
            "attention_bias": bool(seed % 2),
            "rope_parameters": YARN if seed % 2 else None,
        }
        if targets:
            targets = (*(t for t in targets if family == "youtu" or t not in DENSE), *LATENT)
    if family in ("deepseek_v3", "glm4_moe_lite"):
        dense = seed % 3
        more |= {
            "n_routed_experts": crowd[0],
            "num_experts_per_tok": crowd[1],
            "moe_intermediate_size": inner,
            "n_group": 1,
            "topk_group": 1,
        }
        if family == "deepseek_v3":
            more["first_k_dense_replace"] = dense
        else:
            more["mlp_layer_types"] = (["dense"] * dense + ["sparse"] * 2)[:2]
    if family == "gpt_oss":
        more |= {"num_local_experts": crowd[0], "num_experts_per_tok": crowd[1]}
    if family in ("mixtral", "mistral", "gpt_oss"):
        more |= {"sliding_window": window or (256 if family == "gpt_oss" else None)}
    slow, fast = build(config_of(family, hidden, heads, width, **more), seed)
    for slot, rank in enumerate(ranks, start=1):
        for model in (slow, fast):
            model.set_adapter(slot, adapter_of(model, rank, slot, targets))
    slots = [int(s) for s in np.random.default_rng(seed).integers(0, len(ranks) + 1, len(pieces))]
    table = table_of(len(pieces))
    pages = [model.new_pages(table.size) for model in (slow, fast)]
    for batch in batches(pieces, slots, seed):
        if not len(batch.tokens):
            continue
        expected, got = (
            m.step(batch, table, p)[0] for m, p in zip((slow, fast), pages, strict=True)
        )
        assert expected is not None
        assert got is not None
        torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("tied", [True, False])
def test_one_matrix_at_both_ends_is_packed_once_where_that_loses_nothing(form: Any, tied: bool):
    config = config_of("llama", 32, (2, 1), 16, intermediate_size=32, tie_word_embeddings=tied)
    model = build(config, 0)[0].model
    if form != "float32":
        model = model.bfloat16()
    step = NativeStep.pack(model, form)
    table = model.get_input_embeddings().weight.detach()
    once = step._model.embedding is None and step._model.embedding_bf16 is None
    assert once == (tied and form != "int8")
    tokens = torch.tensor([[0, 5, 31], [32, 63, 76]])
    assert torch.equal(step.embed(tokens), table[tokens])


@pytest.fixture(scope="module", params=["qwen3_moe", "deepseek_v3"])
def pair(request: pytest.FixtureRequest) -> tuple[LoadedModel, LoadedModel]:
    more: dict[str, Any] = {"num_experts": 8}
    if request.param == "deepseek_v3":
        more = {
            "n_routed_experts": 8,
            "first_k_dense_replace": 1,
            "intermediate_size": 48,
            "q_lora_rank": 48,
            "kv_lora_rank": 32,
            "qk_rope_head_dim": 8,
            "v_head_dim": 24,
            "n_group": 2,
            "topk_group": 1,
        }
    more |= {"num_experts_per_tok": 2, "moe_intermediate_size": 48}
    return build(config_of(request.param, 64, (4, 2), 16, **more), 3)


def sampling_of(rows: int, steps: int = 1, **changes: Any) -> SamplingMetadata:
    params = np.zeros(rows, SAMPLING_DTYPE)
    params["temperature"], params["top_p"] = 1, 1
    params["seed"] = np.arange(rows) + 5
    for name, values in changes.items():
        params[name] = values
    no = np.zeros(rows, bool)
    most = np.full(rows, 99)
    zeros = np.zeros(rows, np.uint64)
    return SamplingMetadata(params, no, zeros, most, np.zeros(77, bool), no, steps)


def alone(batch: ForwardBatch, at: int) -> ForwardBatch:
    """One piece of a feed by itself."""
    begin = int(batch.counts[:at].sum())
    end = begin + int(batch.counts[at])
    one = slice(at, at + 1)
    return ForwardBatch(
        batch.tokens[begin:end],
        batch.rows[one],
        batch.starts[one],
        batch.counts[one],
        batch.slots[one],
        np.arange(end - begin),
    )


def test_a_rows_logits_do_not_depend_on_its_neighbours(pair) -> None:
    """Bit by bit, with adapters in the batch."""
    _, model = pair
    for slot in (1, 2):
        model.set_adapter(slot, adapter_of(model, 16, slot))
    pieces, slots = [(9, 1)] * 13 + [(5, 7), (0, 18)], [at % 3 for at in range(15)]
    table = table_of(len(pieces))
    pages = model.new_pages(table.size)
    before, batch = batches(pieces, slots, 1)
    model.step(before, table, pages)
    together, _ = model.step(batch, table, pages)
    for at in range(len(pieces)):
        begin = int(batch.counts[:at].sum())
        own, _ = model.step(alone(batch, at), table, pages)
        assert torch.equal(own, together[begin : begin + int(batch.counts[at])])


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("top_p", [0.2, 0.9, 1.0])
@pytest.mark.parametrize("top_k", [0, 1, 7])
@pytest.mark.parametrize("min_p", [0.0, 0.1])
def test_it_draws_what_the_reference_draws(pair, temperature, top_p, top_k, min_p) -> None:
    _, model = pair
    rows = 16
    sampler = Sampler(rows, 77, frozenset(), torch.device("cpu"))
    params = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
    for row in range(rows):
        sampler.admit(row, params, row + 5)
    _, batch = batches([(0, 1)] * rows, [0] * rows, 2)
    table = table_of(rows)
    pages = model.new_pages(table.size)
    logits, _ = model.step(batch, table, pages)
    everyone = np.arange(rows)
    expected = sampler.draw(logits, everyone, np.zeros(rows, np.int64))
    _, output = model.step(batch, table, pages, sampling_of(rows)._replace(params=sampler.how))
    assert output.tokens[0].tolist() == expected[0].tolist()
    for mine, theirs in zip(
        (output.raw_logprobs, output.processed_logprobs), expected[1:3], strict=True
    ):
        np.testing.assert_allclose(mine[0], theirs, atol=1e-4)


def test_several_steps_in_one_call_draw_the_same_as_one_by_one(pair) -> None:
    """Until each row has its tokens, or one that ends it."""
    _, model = pair
    rows, steps = 6, 5
    pieces = [(4, 1)] * rows
    before, batch = batches(pieces, [0] * rows, 4)
    table = table_of(rows)
    pages = model.new_pages(table.size)
    model.step(before, table, pages)
    at_once = sampling_of(rows, steps)._replace(max_new_tokens=np.array([5, 1, 3, 5, 5, 5]))
    _, output = model.step(batch, table, pages, at_once)
    assert output.counts.tolist() == [5, 1, 3, 5, 5, 5]
    tokens = batch.tokens
    for n in range(steps):
        one = ForwardBatch(
            tokens, batch.rows, batch.starts + n, batch.counts, batch.slots, batch.keep
        )
        sampling = sampling_of(rows)._replace(num_generated=np.full(rows, n, np.uint64))
        _, single = model.step(one, table, pages, sampling)
        tokens = single.tokens[0]
        for row in range(rows):
            if n < output.counts[row]:
                assert output.tokens[n, row] == single.tokens[0, row]
                assert output.raw_logprobs[n, row] == single.raw_logprobs[0, row]
    drawn = output.tokens[:, 0].tolist()
    ends = np.zeros(77, bool)
    ends[drawn[1]] = True
    _, ended = model.step(batch, table, pages, at_once._replace(is_eos=ends))
    assert ended.counts[0] == drawn.index(drawn[1]) + 1


def test_reading_whole_sequences(pair) -> None:
    """Logits of the last tokens, and hidden states after the first layer, equal transformers'."""
    slow, fast = pair
    rng = np.random.default_rng(1)
    sequences = [tuple(rng.integers(0, 77, n).tolist()) for n in (5, 31, 2)]
    starts = [3, 30, 1]
    logits = fast.read(sequences, starts)
    torch.testing.assert_close(logits, slow.read(sequences, starts), atol=1e-4, rtol=1e-3)
    assert logits.shape == (2 + 1 + 1, 77)
    states = fast.states(sequences, 1)
    for mine, theirs, sequence in zip(states, slow.states(sequences, 1), sequences, strict=True):
        assert mine.shape == (len(sequence), 64)
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)


def test_a_model_in_bfloat16_keeps_its_cache_so(pair) -> None:
    slow, fast = pair
    narrow, same = (copy.deepcopy(slow.model).bfloat16() for _ in range(2))
    half = LoadedModel(narrow, NO_TOKENIZER, Path(), "")
    assert half.use_native() is None
    assert half.cache_bytes(64) == fast.cache_bytes(64) // 2
    expected = LoadedModel(same.float(), NO_TOKENIZER, Path(), "")
    table = table_of(3)
    pages = [model.new_pages(table.size) for model in (half, expected)]
    for batch in batches([(9, 1), (20, 4), (0, 9)], [0] * 3, 5):
        got, wanted = (
            m.step(batch, table, p)[0] for m, p in zip((half, expected), pages, strict=True)
        )
        torch.testing.assert_close(got, wanted, atol=0.1, rtol=0)


def test_latents_are_cached_instead_of_keys_and_values() -> None:
    """The native cache of MLA has one line for all heads, PyTorch's a key and a value for each."""
    widths = {"kv_lora_rank": 32, "qk_rope_head_dim": 8, "v_head_dim": 24}
    config = config_of("deepseek_v3", 64, (4, 4), 16, n_routed_experts=4, **widths)
    slow, fast = build(config, 1)
    assert fast.cache_bytes(16) == 2 * 16 * (32 + 8) * 4
    assert slow.cache_bytes(16) == 2 * 16 * 4 * (16 + 8 + 24) * 4


def rounded(weight: torch.Tensor, form: str) -> torch.Tensor:
    """A weight [..., out, in] rounded to a format."""
    if form == "bfloat16":
        return weight.bfloat16().float()
    if form == "int4" and weight.shape[-1] % 32 == 0:
        whole, scale = to_int4(weight.unflatten(-1, (-1, 32)), -1)
        return (whole * scale).flatten(-2)
    whole, scale = to_int8(weight, -1)
    return whole * scale


@pytest.mark.parametrize("form", ["bfloat16", "int8", "int4"])
def test_a_format_is_the_same_model_with_rounded_weights(pair, form: str) -> None:
    slow, _ = pair
    packed = NativeStep.pack(slow.model, form)  # type: ignore[arg-type]
    same, _ = build(slow.config, 3)
    with torch.no_grad():
        for name, parameter in same.model.named_parameters():
            if name.endswith("kv_b_proj.weight"):  # keys are made of their transposed half
                keys, values = parameter.view(4, 16 + 24, -1).split([16, 24], dim=1)
                keys.copy_(rounded(keys.transpose(1, 2), form).transpose(1, 2))
                values.copy_(rounded(values, form))
            elif parameter.ndim > 1 and "embed" not in name and "mlp.gate." not in name:
                parameter.copy_(rounded(parameter, form))
    table = table_of(4)
    _, batch = batches([(0, 12)] * 4, [0] * 4, 5)
    logits = packed.empty_logits(len(batch.keep))
    packed(batch, table, packed.new_pages(table.size), logits=logits)
    expected, _ = same.step(batch, table, same.new_pages(table.size))
    # Whole numbers multiply activations rounded to 16 bits.
    near = 1e-4 if form == "bfloat16" else 1e-3
    torch.testing.assert_close(logits[:, :77], expected, atol=near, rtol=1e-3)


@pytest.mark.parametrize("form", ["bfloat16", "int8", "int4"])
def test_what_stands_beside_a_row_changes_none_of_its_bits(pair, form: str) -> None:
    packed = NativeStep.pack(pair[0].model, form)  # type: ignore[arg-type]
    most = 40
    tokens, table = np.random.default_rng(6).integers(0, 77, most), table_of(most)

    def logits_of(rows: int) -> torch.Tensor:
        none, each = np.zeros(rows, np.int64), np.arange(rows)
        batch = ForwardBatch(tokens[:rows], each, none, none + 1, none, each)
        logits = packed.empty_logits(rows)
        packed(batch, table, packed.new_pages(table.size), logits=logits)
        return logits[:, :77]

    together = logits_of(most)
    for rows in (1, 2, 7, 16, 17, 33):
        assert torch.equal(logits_of(rows), together[:rows])


def test_int8_sums_of_many_inputs_do_not_overflow() -> None:
    config = Qwen3Config(
        vocab_size=77, hidden_size=64, intermediate_size=1056, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, max_position_embeddings=64,
    )  # fmt: skip
    slow, _ = build(config, 3)
    with torch.no_grad():  # every weight and activation of the long sum is the largest there is
        for name, parameter in slow.model.named_parameters():
            if "mlp" in name or "embed" in name or "norm" in name:
                parameter.fill_(1.0)
            elif "o_proj" in name:
                parameter.zero_()
    packed = NativeStep.pack(slow.model, "int8")
    table = table_of(4)
    _, batch = batches([(0, 12)] * 4, [0] * 4, 5)
    state = torch.empty(len(batch.tokens), 64)
    packed(batch, table, packed.new_pages(table.size), state=state, layers=1)
    inner = 64.0 / (1 + np.exp(-64.0)) * 64.0
    torch.testing.assert_close(state, torch.full_like(state, 1 + 1056 * inner), rtol=1e-4, atol=0)
