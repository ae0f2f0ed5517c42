"""Budgets of keys: what a minute lets through, and what the headers say of it."""

from __future__ import annotations

from collections.abc import Callable

import openai
import pytest
from burnish.serving.api.auth import KeyStore, Principal
from burnish.serving.api.budgets import Budgets
from burnish.serving.api.errors import ApiError
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.conftest import Running

ACME = Principal("acme", frozenset(["chat"]), "bk-acme")
OTHER = Principal("acme", frozenset(["chat"]), "bk-other")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.integers(1, 20), st.lists(st.floats(0, 90), max_size=80))
def test_no_stretch_of_time_lets_more_through_than_it_allows(
    limit: int, pauses: list[float]
) -> None:
    clock = Clock()
    budgets = Budgets(requests_per_minute=limit, clock=clock)
    admitted: list[float] = []
    for pause in pauses:
        clock.now += pause
        try:
            with budgets.admit(ACME):
                admitted.append(clock.now)
        except ApiError as refusal:
            # Whoever waits as long as told is let in.
            clock.now += int(refusal.headers["Retry-After"])
            with budgets.admit(ACME):
                admitted.append(clock.now)
    for first, start in enumerate(admitted):
        for last in range(first, len(admitted)):
            seconds = admitted[last] - start
            assert last - first + 1 <= limit + seconds * limit / 60 + 1e-6


@given(
    st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 30), st.integers(0, 500)), max_size=40)
)
def test_tokens_are_never_lent_for_longer_than_one_answer(
    limit: int, answers: list[tuple[float, int]]
) -> None:
    clock = Clock()
    budgets = Budgets(tokens_per_minute=limit, clock=clock)
    used, largest = 0, 0
    for pause, tokens in answers:
        clock.now += pause
        try:
            with budgets.admit(ACME):
                budgets.spend(ACME.account, tokens)
        except ApiError:
            continue
        used, largest = used + tokens, max(largest, tokens)
        assert used <= limit + clock.now * limit / 60 + largest + 1e-6


def test_requests_at_once_and_keys_apart() -> None:
    budgets = Budgets(concurrent=2)
    with budgets.admit(ACME), budgets.admit(ACME):
        with pytest.raises(ApiError) as refused, budgets.admit(ACME):
            pass
        assert refused.value.status == 429
        with budgets.admit(OTHER), budgets.admit(None):
            pass
    with budgets.admit(ACME):
        pass


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


def test_there_are_none_unless_they_are_set(running: Running) -> None:
    for _ in range(5):
        assert "x-ratelimit-limit-requests" not in running.http("GET", "/v1/models").headers
