"""Each vital part killed: readiness and health name it, and clients are told instead of left waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import openai
import pytest
from burnish.serving.engine import LocalEngine, StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually

PATIENCE_S = 10.0


def end(*_: Any, **__: Any) -> NoReturn:
    """Nothing but a thread's own end catches this."""
    raise SystemExit("injected")


def fail(*_: Any, **__: Any) -> NoReturn:
    raise TypeError("injected")


def cancel(*_: Any, **__: Any) -> NoReturn:
    """Ends a task whatever it guards against."""
    raise asyncio.CancelledError("injected")


def kill_spool(running: Running, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(running.service.spool._commits, "_commit", end)
    running.http("GET", "/readyz")  # writes


def kill_forwarder(running: Running, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(running.service.forwarder, "_pause", end)


def kill_policies(running: Running, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(running.service.policies, "poll", cancel)


def kill_compactor(running: Running, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(running.service.compactor, "poll", cancel)


def kill_memory(running: Running, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(running.service.memory.changes, "sweep", cancel)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.serving.live.compactor.MIN_POLL_S", 0.05)
    monkeypatch.setattr("burnish.memory.compaction.background.SWEEP_SECONDS", 0.05)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "kill", [kill_spool, kill_forwarder, kill_policies, kill_compactor, kill_memory]
)
def test_a_dead_part_is_named(
    serve: Callable[..., Running],
    settings: ServingSettings,
    monkeypatch: pytest.MonkeyPatch,
    kill: Callable[[Running, pytest.MonkeyPatch], None],
) -> None:
    running = serve(settings, StubEngine("Hello there."))
    assert running.http("GET", "/readyz").status_code == 200
    kill(running, monkeypatch)
    name = kill.__name__.removeprefix("kill_")
    eventually(lambda: running.http("GET", "/healthz").status_code == 503, PATIENCE_S)
    health = running.http("GET", "/healthz").json()
    assert [problem.split()[0] for problem in health["problems"]] == [name]
    ready = running.http("GET", "/readyz")
    assert ready.status_code == 503
    assert any(problem.startswith(f"{name} has failed") for problem in ready.json()["problems"])


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    return request.param


def test_a_dead_engine_tells_all_that_wait_for_it(
    serve: Callable[..., Running],
    settings: ServingSettings,
    monkeypatch: pytest.MonkeyPatch,
    tiny_model: Path,
    stream: bool,
) -> None:
    engine = LocalEngine(tiny_model)
    running = serve(settings, engine)
    running.say("Hi", max_tokens=2)
    monkeypatch.setattr(engine._core, "step", fail)
    for _ in range(2):  # in flight, and after it
        with pytest.raises(openai.APIError) as caught:
            list(running.say("Hi", max_tokens=2, stream=stream, timeout=PATIENCE_S))
        assert caught.value.code == "engine_failed"
    assert running.http("GET", "/healthz").status_code == 503
    ready = running.http("GET", "/readyz")
    assert (ready.status_code, "engine has failed" in ready.text) == (503, True)
    eventually(lambda: not running.service.policies.leased)


@pytest.mark.parametrize("budget", [2**31, 2**63, 10**20])
def test_a_huge_thinking_budget_stops_nobody(
    serve: Callable[..., Running], settings: ServingSettings, tiny_model: Path, budget: int
) -> None:
    running = serve(settings, LocalEngine(tiny_model))
    asked = {"thinking_token_budget": budget, "reasoning_effort": "low"}
    with suppress(openai.BadRequestError):
        assert running.say("Hi", max_tokens=4, extra_body=asked, timeout=PATIENCE_S).choices
    assert running.say("Hi", max_tokens=2, timeout=PATIENCE_S).choices
    assert running.http("GET", "/healthz").status_code == 200


class FailingStub(StubEngine):
    """Fails with an exception that no engine is meant to raise, or stops without a word."""

    def __init__(self, at: int, error: BaseException | None) -> None:
        super().__init__("Hello there.")
        self.at, self.error = at, error

    async def generate(self, request: Any) -> Any:
        count = 0
        async for delta in super().generate(request):
            if count == self.at:
                if self.error is None:
                    return
                raise self.error
            count += 1
            yield delta


@pytest.mark.parametrize("at", [0, 3], ids=["at once", "midway"])
@pytest.mark.parametrize(
    "error", [OverflowError("too large"), KeyError("x"), None], ids=["overflow", "key", "silence"]
)
@pytest.mark.parametrize("n", [1, 3])
def test_any_failure_of_an_engine_is_an_answer(
    serve: Callable[..., Running],
    settings: ServingSettings,
    at: int,
    error: BaseException | None,
    n: int,
    stream: bool,
) -> None:
    running = serve(settings, FailingStub(at, error))
    with pytest.raises(openai.APIError) as caught:
        list(running.say("Hi", stream=stream, n=n, timeout=PATIENCE_S))
    assert caught.value.code == "engine_error"
    assert ("in the middle" if error is None else type(error).__name__) in str(caught.value)
    eventually(lambda: not running.engine.running)
    eventually(lambda: not running.service.policies.leased)
    assert running.http("GET", "/healthz").status_code == 200
    if stream and at:  # what was shown may be judged
        eventually(lambda: bool(running.recorded()))
        event = running.recorded()[0]
        assert event.completions[0].text.startswith("Hel")
        assert event.completions[0].finish_reason == "cancelled"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("part", ["policies", "compactor"])
def test_followers_go_on_after_any_failure(
    serve: Callable[..., Running],
    settings: ServingSettings,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    running = serve(settings, StubEngine("Hello there."))
    follower = getattr(running.service, part)
    with monkeypatch.context() as patch:
        patch.setattr(follower, "poll", fail)
        eventually(lambda: follower.problem == "TypeError: injected", PATIENCE_S)
    eventually(lambda: follower.problem is None, PATIENCE_S)
    assert running.http("GET", "/healthz").status_code == 200
