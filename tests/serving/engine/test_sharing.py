"""The KV cache: equal prefixes are computed once, growth preempts the latest arrival, tenants get
their share. None of it changes a single token."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from burnish.serving.engine import LocalEngine, Request, SamplingParams
from burnish.serving.engine.paged_kv import BlockPool
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from .conftest import Ask, random_adapter


def outputs(engine: LocalEngine, requests: list[Request]) -> list[tuple]:
    return [(c.token_ids, c.logprobs) for c in engine.generate_batch(requests)]


def test_a_prompt_is_computed_once(engine: LocalEngine, ask: Ask) -> None:
    first, again = ask(1, length=50), ask(1, length=50)
    expected = outputs(engine, [first])
    before = engine.stats()
    assert outputs(engine, [again]) == expected
    after = engine.stats()
    assert after.reused_total - before.reused_total == 48
    assert after.prompt_tokens_total - before.prompt_tokens_total == 2


def test_answers_to_one_prompt_share_it_while_it_is_being_computed(loaded, ask: Ask) -> None:
    """As `n` and the learner's groups ask for."""
    fresh = [LocalEngine(loaded, max_running=8) for _ in range(2)]
    requests = [ask(1, length=70, seed=seed) for seed in range(8)]
    together = outputs(fresh[0], requests)
    assert fresh[0].stats().prompt_tokens_total == 70 + 7 * (70 - 64)
    assert together == [outputs(fresh[1], [request])[0] for request in requests]


def test_an_answer_continued_as_a_prompt_starts_behind_the_first_prompt(
    engine: LocalEngine, ask: Ask
) -> None:
    first = ask(1, length=40)
    (answer,) = engine.generate_batch([first])
    longer = replace(first, prompt_ids=(*first.prompt_ids, *answer.token_ids, 5, 6))
    before = engine.stats().reused_total
    engine.generate_batch([longer])
    assert engine.stats().reused_total - before == 32


def test_versions_never_read_each_others_cache(engine: LocalEngine, loaded, ask: Ask) -> None:
    """Not even one that takes over the slot and the name of another."""
    base = outputs(engine, [ask(1, length=40)])
    seen = [base]
    for seed in (2, 3):
        engine.set_adapter_weights("trainee", random_adapter(engine.model, seed))
        seen.append(outputs(engine, [ask(1, length=40, adapter="trainee")]))
        lone = LocalEngine(loaded, max_running=2)
        lone.set_adapter_weights("other", random_adapter(loaded, seed))
        assert outputs(lone, [ask(1, length=40, adapter="other")]) == seen[-1]
        lone.unload_adapter("other")
        engine.unload_adapter("trainee")
    assert len({answer[0][0] for answer in seen}) == 3


def test_preemption_changes_no_token(loaded, ask: Ask) -> None:
    roomy, tight = (
        LocalEngine(loaded, max_running=6),
        LocalEngine(loaded, max_running=6, num_blocks=9),
    )
    requests = [
        ask(i, length=10 + i, max_tokens=60, frequency_penalty=0.5 * (i % 2)) for i in range(6)
    ]
    expected = outputs(roomy, requests)
    assert outputs(tight, requests) == expected
    assert roomy.stats().preempted_total == 0
    assert tight.stats().preempted_total > 0
    assert tight.stats().free_blocks == 9


async def test_a_tenant_with_many_requests_does_not_crowd_out_another(loaded, ask: Ask) -> None:
    engine = LocalEngine(loaded, max_running=2)
    done: list[str] = []

    async def run(request: Request) -> None:
        async for _ in engine.generate(request):
            pass
        done.append(request.tenant)

    await engine.start()
    many = [run(replace(ask(i), tenant="many")) for i in range(20)]
    few = [run(replace(ask(i), tenant="few")) for i in range(20, 24)]
    await asyncio.gather(*many, *few)
    await engine.stop()
    # Alone each would have every second place, so the four are through by about the tenth.
    assert Counter(done[:12])["few"] == 4


class Pool(RuleBasedStateMachine):
    """Blocks are never handed to two at once, never lost, and found only while their content stands."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(8)
        self.held: list[list[int]] = []
        self.content: dict[int, bytes] = {}
        self.stamp = 0

    @precondition(lambda self: self.pool.num_free > 0)
    @rule(data=st.data())
    def allocate(self, data) -> None:
        taken = self.pool.allocate(data.draw(st.integers(1, self.pool.num_free)))
        for block in taken:
            self.content.pop(block, None)
        self.held.append(taken)

    @precondition(lambda self: any(self.held))
    @rule(data=st.data(), name=st.integers(0, 5))
    def cache(self, data, name: int) -> None:
        block = data.draw(st.sampled_from(sorted({b for some in self.held for b in some})))
        key = bytes([name])
        if block not in self.content and key not in self.content.values():
            self.content[block] = key
            self.pool.cache(block, key)

    @rule(name=st.integers(0, 5))
    def acquire_cached(self, name: int) -> None:
        block = self.pool.acquire_cached(bytes([name]))
        known = [b for b, key in self.content.items() if key == bytes([name])]
        assert ([] if block is None else [block]) == known
        if block is not None:
            self.held.append([block])

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data) -> None:
        self.pool.release(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @invariant()
    def every_block_is_held_or_free(self) -> None:
        assert len({b for some in self.held for b in some}) + self.pool.num_free == 8


TestPool = Pool.TestCase


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=8), seed=st.integers(0, 9))
def test_any_mix_of_shared_beginnings_gives_what_each_gives_alone(
    lengths: list[int], seed: int, loaded_once: list[LocalEngine]
) -> None:
    shared, fresh = loaded_once
    whole = tuple(range(10 + seed, 75 + seed))
    requests = [
        Request(id=str(i), prompt_ids=whole[:length], params=_params(i))
        for i, length in enumerate(lengths)
    ]
    together = outputs(shared, requests)
    assert together == [outputs(fresh, [request])[0] for request in requests]


@pytest.fixture(scope="module")
def loaded_once(loaded) -> list[LocalEngine]:
    return [LocalEngine(loaded, max_running=8), LocalEngine(loaded, max_running=1, num_blocks=8)]


def _params(seed: int) -> SamplingParams:
    return SamplingParams(max_tokens=4, seed=seed, ignore_eos=True)
