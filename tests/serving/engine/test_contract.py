"""What every engine behind the protocol keeps: ours, vLLM's and the stub.

Five of them: our own, the stub, vLLM's client against a stand-in that follows the documented API and
against two of them, and the client against the real servers that BURNISH_TEST_VLLM_URL names, one or
several with commas between, which serve the model in the folder BURNISH_TEST_VLLM_MODEL, with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, --enable-lora and
--structured-outputs-config '{"backend": "guidance", "disable_any_whitespace": true}'.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from burnish.kernels.loading import load_model
from burnish.kernels.lora import save_adapter
from burnish.kernels.model import LoadedModel
from burnish.serving.engine import (
    Completion,
    Delta,
    Engine,
    EngineStopped,
    LocalEngine,
    PromptTooLong,
    Request,
    SamplingParams,
    StubEngine,
    UnknownAdapter,
    Unsupported,
    json_grammar,
)
from burnish.serving.engine.vllm import VllmEngine

from .conftest import random_adapter
from .vllm.standin import Standin

SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": [1, 2]}, "b": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Under:
    """An engine under test; `servers` are what stands behind it, where we can look."""

    engine: Any
    model: LoadedModel  # the same model, for adapters that fit
    servers: tuple[LocalEngine | StubEngine, ...] = ()


@pytest.fixture(scope="module")
def behind(tiny_model: Path) -> Iterator[Standin[LocalEngine]]:
    server = Standin(LocalEngine(tiny_model, max_running=8))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def beside(tiny_model: Path) -> Iterator[Standin[LocalEngine]]:
    server = Standin(LocalEngine(tiny_model, max_running=8))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["local", "stub", "vllm stand-in", "vllm stand-ins", "vllm"])
async def under(request: pytest.FixtureRequest, tiny_model: Path) -> AsyncIterator[Under]:
    if request.param == "local":
        engine: Any = LocalEngine(tiny_model, max_running=8)
        found = Under(engine, engine.model, (engine,))
    elif request.param == "stub":
        engine = StubEngine(pace_s=0.001, max_model_len=512)
        found = Under(engine, request.getfixturevalue("loaded"), (engine,))
    elif request.param == "vllm stand-in":
        behind = request.getfixturevalue("behind")
        engine = VllmEngine(behind.url, tiny_model, key=behind.key)
        found = Under(engine, behind.engine.model, (behind.engine,))
    elif request.param == "vllm stand-ins":
        pair = [request.getfixturevalue(name) for name in ("behind", "beside")]
        engine = VllmEngine([one.url for one in pair], tiny_model, key=pair[0].key)
        found = Under(engine, pair[0].engine.model, tuple(one.engine for one in pair))
    else:
        urls, folder = request.getfixturevalue("real_urls")
        engine = VllmEngine(urls, folder, key=os.environ.get("BURNISH_TEST_VLLM_KEY"))
        found = Under(engine, load_model(folder))
    await engine.start()
    yield found
    await engine.stop(drain=False)
    for name in engine.adapters:
        engine.unload_adapter(name)


def ask(at: int = 0, length: int = 12, adapter: str | None = None, **params: Any) -> Request:
    prompt = tuple(5 + (at * 31 + n * 7) % 250 for n in range(length))
    wanted = {"seed": at, "max_tokens": 16, "ignore_eos": True, **params}
    return Request(f"r{at}", prompt, SamplingParams(**wanted), adapter)


async def collect(engine: Engine, request: Request) -> list[Delta]:
    async with aclosing(engine.generate(request)) as deltas:  # type: ignore[type-var]
        return [delta async for delta in deltas]


async def answer(engine: Engine, request: Request) -> Completion:
    return Completion.join(await collect(engine, request))


async def idle(under: Under) -> None:
    async with asyncio.timeout(30):
        while any(e.stats().running for e in (under.engine, *under.servers)):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_hidden_states_are_told_as_far_as_it_says(under: Under):
    if under.engine.depth is None:
        with pytest.raises(Unsupported):
            await under.engine.states([5, 6], [[7]], 1)
        return
    told = await under.engine.states([5, 6], [[7], [8, 9, 10]], under.engine.depth)
    assert [len(states) for states in told] == [2, 1, 3]
    assert len({states.shape[1] for states in told}) == 1


async def test_an_answer_is_tokens_text_and_numbers(under: Under) -> None:
    got = await answer(under.engine, ask(1, logprobs=3))
    assert len(got.token_ids) == len(got.logprobs) == len(got.processed_logprobs) == 16
    assert got.finish_reason == "length"
    assert got.text == under.engine.tokenizer.decode(got.token_ids, skip_special_tokens=True)
    assert got.processed_logprobs == got.logprobs  # nothing changes the distribution
    for token, logprob, top in zip(got.token_ids, got.logprobs, got.top, strict=True):
        assert len(top) == 3
        values = [value for _, value in top]
        assert values == sorted(values, reverse=True)
        assert logprob <= values[0] + 1e-4
        assert token not in dict(top) or dict(top)[token] == pytest.approx(logprob, abs=1e-4)


async def test_a_seed_repeats_an_answer_and_another_does_not(under: Under) -> None:
    first, again, other = [
        await answer(under.engine, ask(1, seed=seed, max_tokens=32)) for seed in (5, 5, 2**64 - 1)
    ]
    assert again.token_ids == first.token_ids
    assert other.token_ids != first.token_ids


async def test_many_at_once_are_kept_apart(under: Under) -> None:
    requests = [ask(at, length=4 + at, temperature=0.0) for at in range(12)]
    together = await asyncio.gather(*(answer(under.engine, r) for r in requests))
    batch = await asyncio.to_thread(under.engine.generate_batch, requests)
    assert [a.token_ids for a in together] == [a.token_ids for a in batch]
    assert {value for one in batch for value in one.processed_logprobs} == {0.0}


async def test_bias_and_filters_reach_the_draw(under: Under) -> None:
    only = await answer(under.engine, ask(1, logit_bias={42: 100.0}))
    assert set(only.token_ids) == {42}
    best = await answer(under.engine, ask(1, temperature=0.0))
    narrow: list[dict[str, Any]] = [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}]
    for bent in narrow:
        assert (await answer(under.engine, ask(1, **bent))).token_ids == best.token_ids
    varied = await answer(
        under.engine, ask(1, temperature=0.0, frequency_penalty=2.0, max_tokens=40)
    )
    plain = await answer(under.engine, ask(1, temperature=0.0, max_tokens=40))
    assert len(set(varied.token_ids)) >= len(set(plain.token_ids))


async def test_a_stop_string_ends_the_text_before_it(under: Under) -> None:
    whole = await answer(under.engine, ask(3, temperature=0.0, max_tokens=40))
    stop = whole.text[len(whole.text) // 2 :][:3]
    got = await answer(under.engine, ask(3, temperature=0.0, max_tokens=40, stop=(stop,)))
    assert got.text == whole.text[: whole.text.index(stop)]
    assert got.finish_reason == "stop"
    assert got.token_ids == whole.token_ids[: len(got.token_ids)]


async def test_a_grammar_is_kept_to(under: Under) -> None:
    if isinstance(under.engine, StubEngine):
        with pytest.raises(Unsupported, match="grammar"):
            await answer(under.engine, ask(1, grammar=json_grammar(SCHEMA)))
        return
    held = ask(1, max_tokens=60, grammar=json_grammar(SCHEMA), ignore_eos=False)
    got = await answer(under.engine, held)
    assert json.loads(got.text)["a"] in (1, 2)
    assert got.finish_reason == "stop"


async def test_a_lark_grammar_is_kept_to(under: Under) -> None:
    if isinstance(under.engine, StubEngine):
        return  # refuses every grammar, see above
    if not under.servers:
        pytest.skip("a server on another grammar backend than guidance reads no Lark")
    held = ask(1, grammar='start: "yes" | /[0-9]{3}/', ignore_eos=False)
    assert re.fullmatch(r"yes|[0-9]{3}", (await answer(under.engine, held)).text)


async def test_closing_a_stream_frees_the_server(under: Under) -> None:
    stream = under.engine.generate(ask(1, max_tokens=450))
    await anext(stream)
    await stream.aclose()
    await idle(under)
    for server in under.servers:
        assert server.stats().free_blocks == server.stats().total_blocks


async def test_a_deadline_ends_an_answer_with_what_there_is(under: Under) -> None:
    late = replace(ask(1, max_tokens=480), deadline_s=0.002)
    got = await answer(under.engine, late)
    assert got.finish_reason == "deadline"
    assert len(got.token_ids) < 480
    await idle(under)


async def test_versions_live_side_by_side(under: Under, tmp_path: Path) -> None:
    for version in (2, 3):
        folder = save_adapter(
            random_adapter(under.model, version), tmp_path / str(version), str(under.model.path)
        )
        under.engine.load_adapter(f"p@{version}", folder)
    assert under.engine.adapters == ("p@2", "p@3")
    names = [None, "p@2", "p@3", "p@2"]
    said = await asyncio.gather(
        *(answer(under.engine, ask(1, adapter=name, temperature=0.0)) for name in names)
    )
    assert len({one.token_ids for one in said}) == 3
    assert said[1].token_ids == said[3].token_ids
    # A name means one set of weights: loading others under it changes nothing.
    under.engine.load_adapter("p@2", tmp_path / "3")
    again = await answer(under.engine, ask(1, adapter="p@2", temperature=0.0))
    assert again.token_ids == said[1].token_ids


async def test_an_unloaded_version_lives_until_its_last_answer(
    under: Under, tmp_path: Path
) -> None:
    folder = save_adapter(random_adapter(under.model, 2), tmp_path, str(under.model.path))
    under.engine.load_adapter("p@2", folder)
    request = ask(1, adapter="p@2", max_tokens=300, temperature=0.0)
    expected = await answer(under.engine, request)
    stream = under.engine.generate(request)
    begun = [await anext(stream)]
    await asyncio.to_thread(under.engine.unload_adapter, "p@2")
    with pytest.raises(UnknownAdapter):
        await collect(under.engine, request)
    rest = [delta async for delta in stream]
    assert Completion.join(begun + rest).token_ids == expected.token_ids
    for server in under.servers:
        assert server.adapters == ()


async def test_what_cannot_be_is_refused_by_kind(under: Under, tmp_path: Path) -> None:
    longest = under.engine.max_model_len
    with pytest.raises(PromptTooLong, match=str(longest)):
        await collect(under.engine, ask(1, length=longest))
    with pytest.raises(UnknownAdapter, match="p@9"):
        await collect(under.engine, ask(1, adapter="p@9"))
    with pytest.raises(ValueError):  # BadGrammar
        await collect(under.engine, ask(1, grammar="start: nowhere"))
    with pytest.raises(ValueError):
        under.engine.load_adapter("p@2", tmp_path / "nowhere")
    assert under.engine.adapters == ()
    assert under.engine.stats().running == 0


async def begun(engine: Engine, request: Request) -> asyncio.Task[list[Delta]]:
    """A request that the engine has taken on."""
    before = engine.stats().requests_total
    task = asyncio.create_task(collect(engine, request))
    while engine.stats().requests_total == before:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return task


async def test_stopping_cancels_what_runs_or_waits_for_it(under: Under) -> None:
    running = await begun(under.engine, ask(1, max_tokens=450))
    await under.engine.stop(drain=False)
    assert (await running)[-1].finish_reason == "cancelled"
    with pytest.raises(EngineStopped):
        await collect(under.engine, ask(1))
    await under.engine.start()
    running = await begun(under.engine, ask(1))
    await under.engine.stop(drain=True)
    assert sum(len(d.token_ids) for d in await running) == 16


async def test_its_vital_thread_lives_until_it_is_stopped(under: Under) -> None:
    """One that has ended and is still named has failed; see serving/api/vitals.py."""
    await answer(under.engine, ask(1))
    vital = under.engine.vital
    assert vital is None or vital.is_alive()
    await under.engine.stop(drain=True)
    assert under.engine.vital is None
