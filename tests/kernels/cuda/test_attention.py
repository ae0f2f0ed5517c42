"""Paged attention on the device equals the reference over the same pages."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from burnish.kernels.attention import KVPages, PagedBatch, attend
from burnish.kernels.cuda import attention, flash
from burnish.kernels.cuda.attention import PAGE, CudaBatch
from burnish.kernels.forward_batch import ForwardBatch
from hypothesis import given, settings
from hypothesis import strategies as st

REACH, ROWS = 6 * PAGE, 4
pieces = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from([1, 1, 2, 19, 35])), min_size=1, max_size=ROWS
)


def both_backends(
    device, pieces, heads, width, window=None, sinks=False, softcap=None, dtype=torch.float32
):
    """The step's attention by the reference and by the kernels; `heads` and `width` are pairs."""
    (heads, kv_heads), (width, value_width) = heads, width
    pieces = sorted(pieces, key=lambda piece: piece[1] > 1)  # single tokens first
    starts, counts = (np.array(n) for n in zip(*pieces, strict=True))
    rows = np.arange(len(pieces))[::-1].copy()
    tokens = np.zeros(counts.sum(), np.int64)
    batch = ForwardBatch(tokens, rows, starts, counts, np.zeros_like(rows), np.arange(len(tokens)))
    blocks = np.random.default_rng(0).permutation(ROWS * REACH // PAGE).reshape(ROWS, -1)
    table = (blocks[..., None] * PAGE + np.arange(PAGE)).reshape(ROWS, REACH)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    old = KVPages(
        normal(ROWS * REACH, kv_heads, width), normal(ROWS * REACH, kv_heads, value_width)
    )
    new = (
        normal(len(tokens), heads, width),
        normal(len(tokens), kv_heads, width),
        normal(len(tokens), kv_heads, value_width),
    )
    sink = normal(heads) if sinks else None
    found = []
    for ours in (False, True):
        pages = KVPages(old.key.clone(), old.value.clone())
        if ours:
            paged = CudaBatch.of(batch, table, (pages,), heads // kv_heads, device)
        else:
            places = (torch.from_numpy(a).to(device) for a in (table, rows, starts, counts))
            paged = PagedBatch((pages,), *places)
        out = paged.attend(*new, pages, width**-0.5, window, sink, softcap)
        found.append((out, pages.key, pages.value))
    return found


@settings(max_examples=25, deadline=None)
@given(
    pieces=pieces,
    heads=st.sampled_from([(1, 1), (4, 4), (4, 1), (6, 2)]),  # a share of 3 is no power of two
    width=st.sampled_from([(16, 16), (24, 24), (24, 16)]),  # the last: MLA's
    window=st.sampled_from([None, 1, 8, 40]),
    sinks=st.booleans(),
    softcap=st.sampled_from([None, 5.0]),
)
def test_every_kind_of_attention_equals_the_reference(
    pieces, heads, width, window, sinks, softcap, device
) -> None:
    truth, ours = both_backends(device, pieces, heads, width, window, sinks, softcap)
    for expected, got in zip(truth, ours, strict=True):  # the output, and what was written
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


@settings(max_examples=8, deadline=None)
@given(
    starts=st.lists(st.integers(0, 90), min_size=1, max_size=2),
    window=st.sampled_from([None, 20]),
    sinks=st.booleans(),
)
def test_the_keys_of_few_tokens_are_split_and_joined(starts, window, sinks, device) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BYTES", 2048)  # 16 keys at once, so several splits
        alone = [(start, 1) for start in starts]
        truth, ours = both_backends(device, alone, (4, 2), (16, 16), window, sinks)
    torch.testing.assert_close(ours[0], truth[0], atol=1e-4, rtol=0)


def stand_in(q, k, v, edges, key_edges, longest, most_keys, scale, window, softcap):
    """FlashAttention as its documentation has it: causal from the ends of queries and keys."""
    left, right = flash._sides(window)
    assert right == 0
    out = []
    assert max(b - a for a, b in pairwise(edges.tolist())) == longest
    assert max(b - a for a, b in pairwise(key_edges.tolist())) == most_keys
    for (a, b), (c, d) in zip(pairwise(edges.tolist()), pairwise(key_edges.tolist()), strict=True):
        at = torch.arange(d - c)
        last = torch.arange(b - a)[:, None] + (d - c) - (b - a)
        seen = at <= last
        if left >= 0:
            seen &= at >= last - left
        mask = torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)
        q1, k1, v1 = (x.transpose(0, 1)[None] for x in (q[a:b], k[c:d], v[c:d]))
        out.append(attend(q1, k1, v1, mask, scale, None, softcap)[0].transpose(0, 1))
    return torch.cat(out)


@pytest.mark.parametrize("window", [None, 8])
def test_prompts_reach_flash_attention_as_it_wants_them(window, monkeypatch) -> None:
    monkeypatch.setattr(attention, "varlen_for", lambda *_: stand_in)
    some = [(3, 1), (0, 21), (17, 30), (40, 2)]
    truth, ours = both_backends(torch.device("cpu"), some, (4, 2), (16, 16), window)
    torch.testing.assert_close(ours[0], truth[0], atol=1e-5, rtol=0)


HALVES = [
    torch.float16,
    pytest.param(
        torch.bfloat16,
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason="Triton's interpreter has no bfloat16"
        ),
    ),
]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_half_precision(dtype, window, softcap, device) -> None:
    """On a GPU prompts take FlashAttention where it can be had, single tokens our kernel."""
    some = [(3, 1), (60, 1), (0, 21), (17, 30)]
    shape = (8, 2), (64, 64)
    truth, ours = both_backends(device, some, *shape, window, softcap=softcap, dtype=dtype)
    allowed = 2e-2 if dtype == torch.bfloat16 else 4e-3
    torch.testing.assert_close(ours[0], truth[0], atol=allowed, rtol=0)
