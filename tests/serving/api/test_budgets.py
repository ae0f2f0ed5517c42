"""Budgets of keys: what a minute lets through, and what the headers say of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import openai
import pytest
import redis
from burnish.feedback.redis_clients import open_async_client
from burnish.serving.api.auth import KeyStore, Principal
from burnish.serving.api.budgets import Budgets, Limits, LocalAccounts
from burnish.serving.api.errors import ApiError
from burnish.serving.api.shared_budgets import HOLD_S, SharedAccounts
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.serving.conftest import Running

ACME = Principal("acme", frozenset(["chat"]), "bk-acme")
OTHER = Principal("acme", frozenset(["chat"]), "bk-other")


class Replicas:
    """Each call goes to the next replica."""

    def __init__(self, budgets: list[Budgets], shared: list[SharedAccounts]) -> None:
        self._turns, self._shared = cycle(budgets), shared

    def admit(self, who: Principal | None) -> AbstractAsyncContextManager[Mapping[str, str]]:
        return next(self._turns).admit(who)

    async def spend(self, account: str, tokens: int) -> None:
        next(self._turns).spend(account, tokens)
        await self.told()

    async def told(self) -> None:
        """Once Redis has what is told in passing."""
        for each in self._shared:
            await asyncio.gather(*each._tasks)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["own", "shared"])
def open_replicas(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`async with open_replicas(limits, clock) as replicas`: one that counts for itself, or two that share
    their accounts."""

    @asynccontextmanager
    async def opened(limits: Limits, clock: Clock) -> AsyncIterator[Replicas]:
        if request.param == "own":
            yield Replicas([Budgets(limits, LocalAccounts(limits, clock))], [])
            return
        url = request.getfixturevalue("redis_url")
        with redis.Redis.from_url(url) as client:
            client.flushall()
        shared = [SharedAccounts(limits, open_async_client(url), now=clock) for _ in range(2)]
        yield Replicas([Budgets(limits, each) for each in shared], shared)
        for each in shared:
            await each.close()

    return opened


_FEW = {
    "max_examples": 40,
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


@given(st.integers(1, 20), st.lists(st.floats(0, 90), max_size=60))
@hypothesis_settings(**_FEW)
def test_no_stretch_of_time_lets_more_through_than_it_allows(
    open_replicas: Callable[..., Any], limit: int, pauses: list[float]
) -> None:
    clock = Clock()
    admitted: list[float] = []

    async def use() -> None:
        async with open_replicas(Limits(requests_per_minute=limit), clock) as replicas:
            for pause in pauses:
                clock.now += pause
                try:
                    async with replicas.admit(ACME):
                        admitted.append(clock.now)
                except ApiError as refusal:
                    # Whoever waits as long as told is let in.
                    clock.now += int(refusal.headers["Retry-After"])
                    async with replicas.admit(ACME):
                        admitted.append(clock.now)

    asyncio.run(use())
    for first, start in enumerate(admitted):
        for last in range(first, len(admitted)):
            seconds = admitted[last] - start
            assert last - first + 1 <= limit + seconds * limit / 60 + 1e-4


@given(
    st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 30), st.integers(0, 500)), max_size=30)
)
@hypothesis_settings(**_FEW)
def test_tokens_are_never_lent_for_longer_than_one_answer(
    open_replicas: Callable[..., Any], limit: int, answers: list[tuple[float, int]]
) -> None:
    clock = Clock()

    async def use() -> None:
        used, largest = 0, 0
        async with open_replicas(Limits(tokens_per_minute=limit), clock) as replicas:
            for pause, tokens in answers:
                clock.now += pause
                try:
                    async with replicas.admit(ACME):
                        await replicas.spend(ACME.account, tokens)
                except ApiError:
                    continue
                used, largest = used + tokens, max(largest, tokens)
                assert used <= limit + clock.now * limit / 60 + largest + 1e-4

    asyncio.run(use())


async def test_requests_at_once_and_keys_apart(open_replicas: Callable[..., Any]) -> None:
    async with open_replicas(Limits(concurrent=2), Clock()) as replicas:
        async with replicas.admit(ACME), replicas.admit(ACME):
            with pytest.raises(ApiError) as refused:
                async with replicas.admit(ACME):
                    pass
            assert refused.value.status == 429
            async with replicas.admit(OTHER), replicas.admit(None):
                pass
        await replicas.told()
        async with replicas.admit(ACME):
            pass


async def test_a_replica_that_died_holds_its_requests_for_a_while(
    redis_client: redis.Redis, redis_url: str
):
    clock, limits = Clock(), Limits(concurrent=1)
    here, there = [SharedAccounts(limits, open_async_client(redis_url), now=clock) for _ in "ab"]
    assert (await there.enter("bk-acme", "r1"))[0]
    for task in [there._holder]:  # as kill -9 would leave it
        assert task is not None
        task.cancel()
    assert not (await here.enter("bk-acme", "r2"))[0]
    clock.now += HOLD_S + 1
    assert (await here.enter("bk-acme", "r2"))[0]
    await here.close()
    await there.close()


async def test_while_redis_is_away_a_replica_counts_for_itself(
    redis_client: redis.Redis, redis_url: str
):
    limits, monotonic = Limits(requests_per_minute=2), Clock()
    away = open_async_client("redis://127.0.0.1:1/0")
    accounts = SharedAccounts(limits, away, clock=monotonic)
    budgets = Budgets(limits, accounts)
    for _ in range(2):
        async with budgets.admit(ACME):
            pass
    with pytest.raises(ApiError):
        async with budgets.admit(ACME):
            pass
    assert "BURNISH_REDIS_URL" in str(accounts.last_error)
    await accounts.close()


async def test_an_account_goes_once_it_is_whole_again(redis_client: redis.Redis, redis_url: str):
    limits = Limits(requests_per_minute=2, tokens_per_minute=10)
    accounts = SharedAccounts(limits, open_async_client(redis_url))
    await accounts.enter("bk-acme", "r1")
    accounts.spend("bk-acme", 100)
    await accounts.close()
    (key,) = redis_client.keys("*")
    assert 500 < redis_client.ttl(key) <= 600, "ten minutes' worth of tokens"


def test_over_http(serve: Callable[..., Running], settings: ServingSettings) -> None:
    limits = {"requests_per_minute": 3, "tokens_per_minute": 20}
    running = serve(settings.model_copy(update=limits), StubEngine("Hello there."))
    keys = KeyStore(settings.data_dir / "keys.sqlite")
    acme, other = (running.with_key(keys.create(name, ["chat"])) for name in ("acme", "other"))
    first = acme.http("GET", "/v1/models")
    assert first.headers["x-ratelimit-limit-requests"] == "3"
    assert first.headers["x-ratelimit-remaining-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-tokens"] == "20"
    assert acme.say("Hi").usage.total_tokens > 20  # known afterwards: a debt
    with pytest.raises(openai.RateLimitError) as caught:
        acme.say("Hi")
    assert caught.value.code == "rate_limit_exceeded"
    headers = caught.value.response.headers
    assert int(headers["retry-after"]) >= 1
    assert headers["x-ratelimit-remaining-tokens"] == "0"
    assert headers["x-ratelimit-reset-tokens"].endswith("s")
    assert other.say("Hi").choices
    assert acme.http("GET", "/healthz").status_code == 200


def test_a_key_has_one_budget_over_all_replicas(
    serve: Callable[..., Running], settings: ServingSettings, tmp_path: Path, postgres_url: str,
    redis_client: redis.Redis, redis_url: str,
) -> None:  # fmt: skip
    common = {
        "keys_url": postgres_url,
        "redis_url": redis_url,
        "fleet": True,
        "requests_per_minute": 3,
    }
    key = KeyStore(tmp_path / "command", url=postgres_url).create("acme", ["chat"])
    replicas = [
        serve(
            settings.model_copy(update={**common, "data_dir": tmp_path / name}),
            StubEngine("Hello there."),
        ).with_key(key)
        for name in "ab"
    ]
    answers = [replicas[n % 2].http("GET", "/v1/models") for n in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    left = [a.headers["x-ratelimit-remaining-requests"] for a in answers]
    assert left == ["2", "1", "0", "0", "0"]


def test_there_are_none_unless_they_are_set(running: Running) -> None:
    for _ in range(5):
        assert "x-ratelimit-limit-requests" not in running.http("GET", "/v1/models").headers
