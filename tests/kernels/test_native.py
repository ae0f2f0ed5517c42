"""The native library against the PyTorch reference, op by op, over drawn shapes."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from burnish.kernels import native
from burnish.kernels.attention import KVPages, PagedBatch, paged_attention
from burnish.kernels.experts import experts_forward
from burnish.kernels.slots import ActiveSlots, SlotTable
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler"
)


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=1, max_size=6),
    heads=st.sampled_from([(4, 2, 64), (4, 4, 16), (6, 2, 8), (3, 1, 33)]),
    window=st.sampled_from([None, 1, 7]),
    seed=st.integers(0, 99),
)
def test_attention(lengths, heads, window, seed: int) -> None:
    """Sequences with (cached, new) tokens: same outputs, and the same pages afterwards."""
    query_heads, kv_heads, width = heads
    generator = torch.Generator().manual_seed(seed)
    lengths = sorted(lengths, key=lambda pair: pair[1] != 1)  # single tokens first
    table = torch.randperm(len(lengths) * 50, generator=generator).view(len(lengths), 50)
    starts, counts = (torch.tensor(column) for column in zip(*lengths, strict=True))
    total = int(counts.sum())

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    cached = [draw(table.numel(), kv_heads, width) for _ in range(2)]
    q, k, v = draw(total, query_heads, width), *(draw(total, kv_heads, width) for _ in range(2))
    mine, theirs = (KVPages(*(pages.clone() for pages in cached)) for _ in range(2))
    batch = PagedBatch((theirs,), table, torch.arange(len(lengths)), starts, counts)
    expected = paged_attention(q, k, v, theirs, batch, 0.3, window)
    got = native.attention(
        q, k, v, mine.key, mine.value, table, batch.owner, batch.position, 0.3, window or 0
    )
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-5)
    assert torch.equal(mine.key, theirs.key)
    assert torch.equal(mine.value, theirs.value)


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(1, 40),
    shape=st.sampled_from([(64, 48, 4, 2), (256, 192, 8, 2), (33, 21, 3, 1), (16, 8, 6, 4)]),
    ranks=st.lists(st.sampled_from([0, 1, 4, 16, 32]), max_size=3),  # 0: leaves experts alone
    seed=st.integers(0, 99),
)
def test_experts(tokens: int, shape, ranks: list[int], seed: int) -> None:
    """Any mix of slots and ranks over any routing."""
    hidden, inner, experts, k = shape
    generator = torch.Generator().manual_seed(seed)
    config = Qwen3MoeConfig(
        hidden_size=hidden, moe_intermediate_size=inner, num_experts=experts, num_hidden_layers=1
    )
    module = Qwen3MoeExperts(config)
    active = ActiveSlots()
    tables = {"gate_up_proj": SlotTable(active, experts), "down_proj": SlotTable(active, experts)}
    sizes = {"gate_up_proj": (hidden, 2 * inner), "down_proj": (inner, hidden)}
    with torch.no_grad():
        for name, (inputs, outputs) in sizes.items():
            getattr(module, name).normal_(0, inputs**-0.5, generator=generator)
            for slot, rank in enumerate(ranks, start=1):
                active.scales[slot] = (max(rank, 1), 2.0)
                if rank:
                    a = torch.randn(experts, rank, inputs, generator=generator) * 0.1
                    b = torch.randn(experts, outputs, rank, generator=generator) * 0.1
                    tables[name].set(slot, (a, b))
    module.lora_tables = tables  # type: ignore[assignment]
    fast = native.NativeExperts(module)
    fast.tables = tables
    x = torch.randn(tokens, hidden, generator=generator)
    scores = torch.rand(tokens, experts, generator=generator)
    weights, chosen = scores.topk(k)
    slots = torch.randint(0, len(ranks) + 1, (tokens,), generator=generator)
    with torch.no_grad():
        for which in (slots, int(slots[0])):
            active.use(which)
            expected = experts_forward(module, x, chosen, weights)
            torch.testing.assert_close(fast(x, chosen, weights), expected, atol=2e-5, rtol=1e-4)


@needs_compiler
def test_a_tokens_experts_do_not_depend_on_its_neighbours() -> None:
    config = Qwen3MoeConfig(
        hidden_size=64, moe_intermediate_size=48, num_experts=4, num_hidden_layers=1
    )
    module = Qwen3MoeExperts(config)
    torch.nn.init.normal_(module.get_parameter("gate_up_proj"))
    torch.nn.init.normal_(module.get_parameter("down_proj"))
    fast = native.NativeExperts(module)
    x, (weights, chosen) = torch.randn(33, 64), torch.rand(33, 4).topk(2)
    together = fast(x, chosen, weights)
    for at in range(33):
        one = slice(at, at + 1)
        assert torch.equal(fast(x[one], chosen[one], weights[one]), together[one])


@needs_compiler
def test_the_library_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = shutil.which("g++") or shutil.which("clang++")
    assert compiler is not None
    made = native._compiled(compiler)
    written = made.stat().st_mtime_ns
    assert native._compiled(compiler) == made
    assert made.stat().st_mtime_ns == written
    assert [path.name for path in made.parent.iterdir()] == [made.name]


@pytest.mark.parametrize("trouble", ["no compiler", "does not compile"])
def test_without_a_library_the_reference_serves_and_the_log_says_so(
    trouble: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(compiler: str) -> Path:
        raise subprocess.CalledProcessError(1, compiler, stderr="syntax error")

    found = None if trouble == "no compiler" else "/usr/bin/g++"
    monkeypatch.setattr(native.shutil, "which", lambda name: found)
    monkeypatch.setattr(native, "_compiled", refuse)
    native.library.cache_clear()
    try:
        assert native.library() is None
    finally:
        native.library.cache_clear()
    assert "PyTorch" in caplog.text
