"""Keys of cached prefixes: linear in the prompt, one for each tenant and each version."""

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from burnish.serving.engine import LocalEngine
from burnish.serving.engine.paged_kv import PagedKV
from hypothesis import given
from hypothesis import strategies as st

from .conftest import Ask

MODEL: Any = SimpleNamespace(recurrent=False, new_pages=lambda slots: None)
KV = PagedKV(MODEL, rows=1, max_len=1 << 18, block_size=16, num_blocks=1 << 14)


def test_the_keys_of_a_very_long_prompt_take_no_time() -> None:
    prompt = list(range(200_000))
    started = time.perf_counter()
    keys = KV.keys(prompt, 0)
    assert len({key: None for key in keys}) == 12_500  # hashed one by one
    assert time.perf_counter() - started < 2.0


def test_two_equal_prompts_of_17000_tokens(tmp_path_factory, ask: Ask) -> None:
    from tests.tiny_model import build_tiny_model

    folder = build_tiny_model(
        tmp_path_factory.mktemp("long"), "qwen3", max_position_embeddings=20_000
    )
    engine = LocalEngine(folder, max_running=2)
    first = ask(1, length=17_000, max_tokens=2)
    (expected,) = engine.generate_batch([first])
    before = engine.stats()
    (again,) = engine.generate_batch([first])
    after = engine.stats()
    assert again.token_ids == expected.token_ids
    assert after.reused_total - before.reused_total == 16_992
    assert after.prompt_tokens_total - before.prompt_tokens_total == 8


tokens = st.lists(st.integers(0, 3), max_size=70)
owners = st.tuples(st.integers(0, 1), st.sampled_from(["", "a", "b"]))


@given(tokens, tokens, owners, owners)
def test_keys_are_equal_where_owner_and_all_tokens_so_far_are(one, other, mine, theirs) -> None:
    pairs = zip(KV.keys(one, *mine), KV.keys(other, *theirs), strict=False)
    for at, (key, against) in enumerate(pairs, 1):
        assert (key == against) == (mine == theirs and one[: 16 * at] == other[: 16 * at])


def test_a_tenant_finds_nothing_of_anothers_prompts(engine: LocalEngine, ask: Ask) -> None:
    """Or the time to the first token would tell what others have asked."""
    prompt = ask(1, length=50)
    reused = []
    for tenant in ("a", "b", "b", "a", ""):
        before = engine.stats().reused_total
        engine.generate_batch([replace(prompt, tenant=tenant)])
        reused.append(engine.stats().reused_total - before)
    assert reused == [0, 0, 48, 48, 0]
