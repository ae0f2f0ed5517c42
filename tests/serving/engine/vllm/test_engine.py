"""What is about vLLM alone: its names for adapters, its failures, and who cannot be reached."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from burnish.kernels.lora import save_adapter
from burnish.serving.app import load_engine
from burnish.serving.engine import EngineError, LocalEngine, QueueFull, StubEngine, Unsupported
from burnish.serving.engine.vllm import Unreachable, VllmEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.serving.engine.conftest import random_adapter
from tests.serving.engine.test_contract import answer, ask, collect

from .standin import Standin


@pytest.fixture(scope="module")
def behind(tiny_model: Path) -> Iterator[Standin[LocalEngine]]:
    server = Standin(LocalEngine(tiny_model, max_running=8))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def remote(behind: Standin[LocalEngine], tiny_model: Path) -> VllmEngine:
    return VllmEngine(behind.url, tiny_model, key=behind.key)


def test_it_is_the_model_of_the_folder(remote: VllmEngine, behind: Standin[LocalEngine]) -> None:
    assert remote.model_sha256 == behind.engine.model_sha256
    assert remote.max_model_len == behind.engine.max_model_len


def test_it_says_what_the_engine_behind_it_says(
    remote: VllmEngine, behind: Standin[LocalEngine]
) -> None:
    """Numbers, text and all: nothing is lost on the way."""
    requests = [
        ask(1, logprobs=5),
        ask(2, logprobs=2, temperature=0.0),
        ask(3, stop=("e", "t"), ignore_eos=False, max_tokens=60),
    ]
    pairs = zip(
        remote.generate_batch(requests), behind.engine.generate_batch(requests), strict=True
    )
    for here, there in pairs:
        assert here.processed_logprobs == pytest.approx(there.processed_logprobs, abs=1e-5)
        assert replace(here, processed_logprobs=()) == replace(there, processed_logprobs=())


def test_bent_distributions_are_not_guessed(
    remote: VllmEngine, behind: Standin[LocalEngine]
) -> None:
    (here,), (there,) = (e.generate_batch([ask(1, top_p=0.5)]) for e in (remote, behind.engine))
    assert here.logprobs == there.logprobs
    assert here.processed_logprobs == ()


def test_what_it_cannot_do_is_refused_by_name(remote: VllmEngine) -> None:
    with pytest.raises(Unsupported, match="logprobs_mode") as refused:
        remote.generate_batch([ask(1, logprobs=2, logprobs_mode="processed")])
    assert refused.value.param == "logprobs_mode"


def test_other_weights_have_another_name_over_there(
    remote: VllmEngine, behind: Standin[LocalEngine], tiny_model: Path, tmp_path: Path
) -> None:
    """Two services that both have a default@2 must not answer with each other's."""
    other = VllmEngine(behind.url, tiny_model, key=behind.key)
    for engine, seed in ((remote, 2), (other, 3)):
        folder = save_adapter(random_adapter(behind.engine.model, seed), tmp_path / str(seed), "")
        engine.load_adapter("default@2", folder)
    assert len(behind.engine.adapters) == 2
    said = [e.generate_batch([ask(1, adapter="default@2")])[0] for e in (remote, other)]
    assert said[0].token_ids != said[1].token_ids
    for engine in (remote, other):
        engine.unload_adapter("default@2")
    assert behind.engine.adapters == ()


async def test_a_server_that_started_anew_gets_its_adapters_again(
    remote: VllmEngine, behind: Standin[LocalEngine], tmp_path: Path
) -> None:
    await remote.start()
    remote.load_adapter("p@2", save_adapter(random_adapter(behind.engine.model, 2), tmp_path, ""))
    before = await answer(remote, ask(1, adapter="p@2"))
    (name,) = behind.engine.adapters
    await asyncio.to_thread(behind.engine.unload_adapter, name)  # as if it had been restarted
    assert await answer(remote, ask(1, adapter="p@2")) == before
    await asyncio.to_thread(remote.unload_adapter, "p@2")
    await remote.stop()


async def test_more_than_may_be_under_way_are_refused(
    behind: Standin[LocalEngine], tiny_model: Path
) -> None:
    engine = VllmEngine(behind.url, tiny_model, key=behind.key, max_requests=2)
    await engine.start()
    running = [asyncio.create_task(collect(engine, ask(at, max_tokens=80))) for at in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await collect(engine, ask(3))
    await asyncio.gather(*running)
    await engine.stop()


async def test_a_server_that_dies_is_an_engine_error(tiny_model: Path) -> None:
    server = Standin(LocalEngine(tiny_model))
    server.start()
    engine = VllmEngine(server.url, tiny_model, key=server.key)
    await engine.start()
    server.stop()
    with pytest.raises(EngineError, match="vLLM"):
        await collect(engine, ask(1))
    assert (engine.stats().running, engine.stats().errors_total) == (0, 1)
    await engine.stop()


def test_the_service_answers_through_it(
    serve: Callable[..., Running],
    settings: ServingSettings,
    behind: Standin[LocalEngine],
    tiny_model: Path,
) -> None:
    where = {"model": tiny_model, "engine_url": behind.url, "engine_key": behind.key}
    chosen = settings.model_copy(update=where)
    service = serve(chosen, load_engine(chosen))
    whole = service.say("Hi", temperature=0, max_tokens=12, logprobs=True, top_logprobs=2)
    chunks = list(service.say("Hi", temperature=0, max_tokens=12, stream=True))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == whole.choices[0].message.content
    event = service.recorded()[0]
    assert len(event.completions[0].token_ids) == whole.usage.completion_tokens == 12
    assert len(event.completions[0].logprobs) == 12
    assert service.http("GET", "/metrics").status_code == 200


def test_nobody_there_and_a_wrong_key_are_told_at_once(
    behind: Standin[LocalEngine], tiny_model: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(Unreachable, match="no vLLM server answers"):
        VllmEngine(url, tiny_model)
    with pytest.raises(Unreachable, match="401"):
        VllmEngine(behind.url, tiny_model, key="wrong")


@pytest.mark.parametrize("error", [KeyError("choices"), TypeError("x"), ValueError("no JSON")])
async def test_an_event_that_cannot_be_read_fails_its_request(
    remote: VllmEngine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("burnish.serving.engine.vllm.engine.delta_of", broken)
    await remote.start()
    with pytest.raises(EngineError, match=type(error).__name__):
        await collect(remote, ask(1))
    assert remote.stats().running == 0
    await remote.stop()


def test_adapters_of_a_server_that_is_gone_are_an_engine_error(
    tiny_model: Path, tmp_path: Path
) -> None:
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / file).write_text("{}")
    server = Standin(StubEngine())
    server.start()
    engine = VllmEngine(server.url, tiny_model, key=server.key)
    server.stop()
    with pytest.raises(EngineError, match="no vLLM server answers"):
        engine.load_adapter("p@2", tmp_path)
    assert engine.adapters == ()
