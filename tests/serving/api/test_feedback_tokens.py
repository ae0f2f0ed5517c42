"""Feedback tokens: a browser may judge the one answer that its product's server named, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from burnish.feedback.events import FeedbackEvent, decode
from burnish.feedback.keyring import Keyring
from burnish.serving.api import feedback_tokens
from burnish.serving.api.auth import KeyStore
from burnish.serving.api.feedback_tokens import FeedbackGrant, TokenInvalid, mint, read
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.conftest import Running

KEYRING = Keyring(b"a secret of 32 bytes, more or less")
GRANT = FeedbackGrant("acme", "chatcmpl-1", 0, "ann", "0123", 1000.0)
PRODUCT, OTHER = "https://shop.example", "https://evil.example"


# --- the token -----------------------------------------------------------------------------------


def test_a_token_is_read_until_it_expires() -> None:
    token = mint(KEYRING, GRANT)
    assert read(KEYRING, token, 999.0) == GRANT
    with pytest.raises(TokenInvalid, match="expired"):
        read(KEYRING, token, 1000.0)


def test_a_retired_secret_still_verifies_and_another_does_not() -> None:
    token = mint(KEYRING, GRANT)
    assert read(Keyring(b"new", (KEYRING.current,)), token, 0.0) == GRANT
    with pytest.raises(TokenInvalid):
        read(Keyring(b"new"), token, 0.0)


@given(at=st.integers(min_value=0), by=st.sampled_from("aB3-_.="))
def test_no_changed_token_is_read(at: int, by: str) -> None:
    token = mint(KEYRING, GRANT)
    at = len(feedback_tokens.PREFIX) + at % (len(token) - len(feedback_tokens.PREFIX))
    changed = token[:at] + by + token[at + 1 :]
    if changed != token:
        with pytest.raises(TokenInvalid):
            read(KEYRING, changed, 0.0)


@given(st.text(max_size=60))
def test_anything_else_is_no_token(text: str) -> None:
    with pytest.raises(TokenInvalid):
        read(KEYRING, feedback_tokens.PREFIX + text, 0.0)


# --- over HTTP -----------------------------------------------------------------------------------


def token_of(running: Running, interaction: str, **more: Any) -> str:
    made = running.http("POST", "/v1/feedback/tokens", json={"interaction_id": interaction, **more})
    assert made.status_code == 201, made.text
    return made.json()["token"]


def by_token(running: Running, token: str) -> Running:
    return replace(running, key=token)


def test_a_vote_needs_only_the_token_and_a_value(running: Running) -> None:
    interaction = running.say("Hi").id
    browser = by_token(running, token_of(running, interaction, user="ann"))
    given = browser.http("POST", "/v1/feedback", json={"name": "thumbs", "value": "up"})
    assert given.status_code == 202, given.text
    event = decode(running.service.spool.take(10)[-1].record)
    assert isinstance(event, FeedbackEvent)
    assert (event.interaction_id, event.user, event.tenant) == (interaction, "ann", "local")
    told = browser.http("GET", f"/v1/feedback/{given.json()['id']}")
    assert told.json()["state"] == "stands"


def test_it_is_taken_back_with_the_token(running: Running) -> None:
    interaction = running.say("Hi").id
    browser = by_token(running, token_of(running, interaction, user="ann"))
    judged = browser.http("POST", "/v1/feedback", json={"name": "thumbs", "value": "down"}).json()
    assert browser.http("DELETE", f"/v1/feedback/{judged['id']}").status_code == 200
    assert browser.http("GET", "/v1/feedback").json()["data"] == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"interaction_id": "another"}, "interaction_id"),
        ({"user": "bob"}, "user"),
        ({"choice": 1}, "choice"),
        ({"id": "vote-1"}, "id"),
        ({"session_id": "s1"}, "session_id"),
        ({"over": "another"}, "over"),
    ],
)
def test_what_goes_beyond_the_grant_is_refused(running: Running, body: dict, param: str) -> None:
    first, second = (running.say("Hi").id for _ in range(2))
    if body.get("interaction_id"):
        body = {"interaction_id": second}
    browser = by_token(running, token_of(running, first, user="ann"))
    vote = {"name": "thumbs", "value": "up", **body}
    refused = browser.http("POST", "/v1/feedback", json=vote)
    assert refused.status_code == 403, refused.text
    assert refused.json()["error"]["param"] == param
    assert browser.http("POST", "/v1/feedback", json=[vote]).status_code == 403


def test_others_votes_are_neither_read_nor_taken_back(running: Running) -> None:
    interaction = running.say("Hi").id
    vote = {"interaction_id": interaction, "user": "bob", "name": "thumbs", "value": "up"}
    others = running.http("POST", "/v1/feedback", json=vote).json()["id"]
    browser = by_token(running, token_of(running, interaction, user="ann"))
    assert browser.http("GET", "/v1/feedback").json()["data"] == []
    assert browser.http("GET", f"/v1/feedback/{others}").status_code == 404
    assert browser.http("DELETE", f"/v1/feedback/{others}").status_code == 404
    params = {"interaction_id": running.say("Hi").id}
    assert browser.http("GET", "/v1/feedback", params=params).status_code == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"), ("GET", "/v1/policies"), ("GET", "/v1/learner"), ("GET", "/metrics"),
        ("GET", "/v1/memory/sessions?user=ann"), ("POST", "/v1/chat/completions"),
        ("POST", "/v1/erase"), ("POST", "/v1/learner/update"), ("POST", "/v1/feedback/tokens"),
    ],
)  # fmt: skip
def test_a_token_opens_nothing_else(running: Running, method: str, path: str) -> None:
    browser = by_token(running, token_of(running, running.say("Hi").id))
    body = {"json": {"interaction_id": "x", "user": "ann", "model": "default", "messages": []}}
    refused = browser.http(method, path, **(body if method == "POST" else {}))
    assert refused.status_code in (400, 403), refused.text
    assert refused.json()["error"]["code"] in ("token_not_allowed", "missing_scope")


def test_a_token_that_is_not_ours_is_401_even_where_no_key_is_needed(running: Running) -> None:
    forged = mint(KEYRING, GRANT)
    refused = by_token(running, forged).http("GET", "/v1/feedback")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_feedback_token")


def test_a_product_gets_tokens_for_its_own_answers_only(
    running: Running, settings: ServingSettings
) -> None:
    keys = KeyStore(settings.data_dir / "keys.sqlite")
    acme, rival = keys.create("acme"), keys.create("rival")
    interaction = running.with_key(acme).say("Hi").id
    body = {"interaction_id": interaction}
    asked = running.with_key(rival).http("POST", "/v1/feedback/tokens", json=body)
    assert asked.status_code == 404
    chat_only = keys.create("acme", ["chat"])
    assert (
        running.with_key(chat_only).http("POST", "/v1/feedback/tokens", json=body).status_code
        == 403
    )
    browser = by_token(running, token_of(running.with_key(acme), interaction))
    assert (
        browser.http("POST", "/v1/feedback", json={"name": "thumbs", "value": "up"}).status_code
        == 202
    )


def test_its_life_has_bounds(running: Running) -> None:
    interaction = running.say("Hi").id
    for seconds in (59, 86401):
        body = {"interaction_id": interaction, "expires_in": seconds}
        refused = running.http("POST", "/v1/feedback/tokens", json=body)
        assert refused.json()["error"]["param"] == "expires_in"


# --- across origins ------------------------------------------------------------------------------


@pytest.fixture
def embedded(serve: Callable[..., Running], settings: ServingSettings) -> Running:
    told = settings.model_copy(update={"feedback_origins": (PRODUCT,)})
    return serve(told, StubEngine("Hello there."))


def crossing(origin: str, **more: str) -> dict[str, str]:
    return {"Origin": origin, "Sec-Fetch-Site": "cross-site", **more}


def test_a_product_s_origin_may_judge_and_read_the_answer(embedded: Running) -> None:
    token = token_of(embedded, embedded.say("Hi").id)
    answer = by_token(embedded, token).http(
        "POST", "/v1/feedback", json={"name": "thumbs", "value": "up"}, headers=crossing(PRODUCT)
    )
    assert answer.status_code == 202
    assert answer.headers["access-control-allow-origin"] == PRODUCT
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    preflight = embedded.http("OPTIONS", "/v1/feedback", headers=crossing(PRODUCT, **asks))
    assert preflight.headers["access-control-allow-origin"] == PRODUCT


def test_an_origin_that_is_not_named_is_refused(embedded: Running) -> None:
    token = token_of(embedded, embedded.say("Hi").id)
    refused = by_token(embedded, token).http(
        "POST", "/v1/feedback", json={"name": "thumbs", "value": "up"}, headers=crossing(OTHER)
    )
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers


def test_a_product_s_origin_may_do_nothing_without_a_token_or_beyond_feedback(
    embedded: Running,
) -> None:
    interaction = embedded.say("Hi").id
    vote = {"interaction_id": interaction, "name": "thumbs", "value": "up"}
    without = embedded.http("POST", "/v1/feedback", json=vote, headers=crossing(PRODUCT))
    assert without.json()["error"]["code"] == "origin_not_allowed"
    mint_one = embedded.http("POST", "/v1/feedback/tokens", json=vote, headers=crossing(PRODUCT))
    assert mint_one.status_code == 403
    chat = embedded.http("GET", "/v1/models", headers=crossing(PRODUCT))
    assert chat.status_code == 403
    assert "access-control-allow-origin" not in chat.headers


def test_the_element_is_served_to_named_origins_with_its_type(embedded: Running) -> None:
    found = embedded.http("GET", "/static/burnish-feedback.js", headers=crossing(PRODUCT))
    assert found.headers["access-control-allow-origin"] == PRODUCT
    assert found.headers["content-type"].startswith("text/javascript")
    refused = embedded.http("GET", "/static/burnish-feedback.js", headers=crossing(OTHER))
    assert refused.status_code == 403
