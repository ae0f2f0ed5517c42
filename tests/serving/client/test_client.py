"""The Python client against the real service: typed answers, errors one can act on."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator

import httpx2 as httpx
import pytest
from burnish.ops.examples.agent import work
from burnish.serving.client import (
    AsyncMemory,
    Conflict,
    Forbidden,
    Gone,
    Memory,
    NotFound,
    Refused,
    ServiceError,
    Unavailable,
)
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running, closed_port


@pytest.fixture
def service(serve: Callable[..., Running], settings: ServingSettings, redis_url: str) -> Running:
    return serve(settings.model_copy(update={"redis_url": redis_url}), StubEngine("Hello there."))


@pytest.fixture
def memory(service: Running) -> Iterator[Memory]:
    with Memory(service.url) as memory:
        yield memory


def test_from_first_step_to_export_and_erasure(memory: Memory):
    said = [{"role": "user", "content": "My name is Ana."}, {"role": "assistant", "content": "Hi"}]
    kept = memory.append("s 1", said, user="ana")
    assert [one.cursor for one in kept] == ["1", "2"]
    view = memory.context("s 1", 500, "who?")
    assert view.chat[0] == {"role": "user", "content": "My name is Ana."}
    assert view.tokens == sum(one.tokens for one in kept)
    assert memory.extract("s 1", user="ana")["created"] == 1
    [fact] = memory.search("name", user="ana")
    assert (fact.value, fact.cursors) == ("Ana", ["1"])
    assert fact.score
    fact = memory.correct(fact.id, pinned=True, if_version=fact.version)
    memory.judge(fact.id, 1)
    assert memory.get(fact.id).feedback == 1
    old = memory.put(text="x", user="ana", subject="a", predicate="b", valid_from=5)
    memory.put(text="y", user="ana", subject="a", predicate="b")
    assert [one.text for one in memory.records(user="ana", subject="a")] == ["y"]
    assert len(memory.records(user="ana", subject="a", include_superseded=True)) == 2
    assert [one.id for one in memory.records(user="ana", as_of=6)] == [old.id]
    made = memory.tool({"command": "create", "path": "/memories/a", "file_text": "x"}, user="ana")
    assert not made.is_error
    assert memory.compact("s 1", 400, dry_run=True)["dry_run"] is True
    kinds = [one["type"] for one in memory.export("ana")]
    assert kinds == ["record", "record", "record", "file", "session", "step", "step"]
    assert memory.forget(user="ana")["records"] == 3
    assert list(memory.export("ana")) == []


def test_errors_say_what_can_be_done(memory: Memory):
    with pytest.raises(NotFound, match="session"):
        memory.stats("never")
    with pytest.raises(Refused) as refused:
        memory.append("e", [{"role": "wizard", "content": "x"}])
    assert refused.value.code == "bad_step"
    made = memory.put(id="versioned", text="one")
    memory.put(id="versioned", text="two")
    with pytest.raises(Conflict):
        memory.put(id="versioned", text="three", if_version=made.version)
    memory.forget(record_id="versioned")
    with pytest.raises(Gone):
        memory.put(id="versioned", text="late")
    keyless = httpx.MockTransport(lambda _: httpx.Response(401))
    with Memory("http://x", transport=keyless) as stranger, pytest.raises(Forbidden):
        stranger.stats("e")
    with Memory(f"http://127.0.0.1:{closed_port()}") as away, pytest.raises(Unavailable):
        away.stats("e")
    busy = httpx.MockTransport(lambda _: httpx.Response(503, headers={"retry-after": "7"}))
    with Memory("http://x", transport=busy) as slow, pytest.raises(Unavailable) as told:
        slow.stats("e")
    assert told.value.retry_after == 7
    assert issubclass(Unavailable, ServiceError)


async def test_the_async_client_does_the_same(service: Running):
    async with AsyncMemory(f"{service.url}/v1") as memory:
        await memory.append("async", [{"role": "user", "content": "The port is 8080."}], user="bo")
        assert (await memory.extract("async", user="bo"))["created"] == 1
        views = await asyncio.gather(*(memory.context("async", 100) for _ in range(3)))
        assert {view.version for view in views} == {1}
        assert [one["type"] async for one in memory.export("bo")] == ["record", "session", "step"]
        with pytest.raises(NotFound):
            await memory.get("none")


def test_both_clients_have_the_same_methods():
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")} - {"close", "aclose"}

    assert public(Memory) == public(AsyncMemory)


def test_the_client_needs_nothing_but_httpx():
    heavy = ["numpy", "torch", "redis", "fastapi", "pydantic", "burnish.memory"]
    code = f"import sys, burnish.serving.client; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_an_agent_answers_from_a_small_view_of_a_long_log(memory: Memory):
    report = work(memory, steps=160, budget=600)
    assert report.steps >= 160
    assert report.asked >= 5
    assert report.right == report.asked
    assert report.largest_view <= 600 < report.log_tokens / 10
