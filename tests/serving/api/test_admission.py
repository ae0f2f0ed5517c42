"""What is let in, and what is decided before a body is read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from typing import Any

import httpx2 as httpx
import pytest
from burnish.serving.api.admission import check_site
from burnish.serving.api.auth import KeyStore, host_name
from burnish.serving.api.errors import ApiError
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.conftest import Running

CHAT = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}
THUMB = {"session_id": "s", "name": "thumbs", "value": "up"}
CHANGING = [
    ("POST", "/v1/policies/default/rollback"),
    ("POST", "/v1/policies/default/promote"),
    ("POST", "/v1/policies/default/canary"),
    ("POST", "/v1/learner/update"),
    ("POST", "/v1/feedback"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/memory/forget"),
    ("POST", "/v1/responses/compact"),
    ("PATCH", "/v1/memory/records/r"),
    ("DELETE", "/v1/feedback/f"),
    ("DELETE", "/v1/memory/records/r"),
]


@pytest.fixture
def start(serve: Callable[..., Running], settings: ServingSettings) -> Callable[..., Running]:
    """A service with settings of its own."""

    def started(**changed: Any) -> Running:
        return serve(settings.model_copy(update=changed), StubEngine("Hello there."))

    return started


def key(running: Running, tenant: str, *scopes: str) -> Running:
    store = KeyStore(running.service.settings.data_dir / "keys.sqlite")
    return running.with_key(store.create(tenant, scopes))


def code(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["code"]


# -- size and time -------------------------------------------------------------------------------


def test_a_body_over_the_limit_is_refused_however_it_is_sent(start: Callable[..., Running]) -> None:
    running = start(max_body_mb=0.01)
    headers = {"Content-Type": "application/json"}

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 1000

    for content in (b" " * 20_000, chunks()):
        answer = running.http("POST", "/v1/feedback", content=content, headers=headers)
        assert code(answer, 413) == "too_large"
        assert "BURNISH_MAX_BODY_MB" in answer.json()["error"]["message"]


def test_a_whole_batch_fits(running: Running) -> None:
    batch = [{**THUMB, "name": "comment", "value": "x" * 7000, "user": str(i)} for i in range(500)]
    assert running.http("POST", "/v1/feedback", json=batch).status_code == 202


def raw(running: Running, head: str, *, then: bytes = b"") -> tuple[int, bytes]:
    """Status and body of the answer to a request written by hand."""
    with socket.create_connection(("127.0.0.1", int(running.url.rsplit(":", 1)[1])), 10) as wire:
        wire.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + then)
        answer = HTTPResponse(wire)
        answer.begin()
        return answer.status, answer.read()


def test_keys_are_checked_before_the_body_is_read(running: Running) -> None:
    key(running, "acme", "chat")
    head = "POST /v1/chat/completions HTTP/1.1\nHost: x\nContent-Type: application/json"
    declared, _ = raw(running, f"{head}\nContent-Length: 150000000")
    chunked, _ = raw(running, f"{head}\nTransfer-Encoding: chunked")
    assert (declared, chunked) == (401, 401)  # and not a byte of a body was sent


def test_a_body_that_does_not_come_is_given_up(start: Callable[..., Running]) -> None:
    running = start(body_timeout_s=0.1)
    head = "POST /v1/feedback HTTP/1.1\nHost: localhost\nContent-Type: application/json"
    status, body = raw(running, f"{head}\nContent-Length: 100", then=b"{")
    assert (status, b"body_timeout" in body) == (408, True)


# -- kind and site -------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), CHANGING)
def test_only_json_changes_anything(running: Running, method: str, path: str) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = running.http(method, path, content=b"{}", headers={"Content-Type": kind})
        assert code(answer, 415) == "unsupported_media_type"
        empty = running.http(method, path, headers={"Content-Type": kind})
        assert code(empty, 415) == "unsupported_media_type"
    assert code(running.http(method, path, content=b"{}"), 415) == "unsupported_media_type"
    packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert running.http(method, path, content=b"{}", headers=packed).status_code == 415


@pytest.mark.parametrize(("method", "path"), CHANGING)
@pytest.mark.parametrize(
    "sent",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_change_nothing(
    running: Running, method: str, path: str, sent: dict[str, str]
) -> None:
    headers = {"Content-Type": "application/json", **sent}
    answer = running.http(method, path, content=b"{}", headers=headers)
    assert code(answer, 403) == "origin_not_allowed"
    admin = key(running, "acme", "admin", "chat", "feedback", "memory")
    assert admin.http(method, path, content=b"{}", headers=headers).status_code == 403


def test_our_own_page_and_programs_do(running: Running) -> None:
    for sent in ({}, {"Origin": running.url, "Sec-Fetch-Site": "same-origin"}):
        answer = running.http("POST", "/v1/feedback", json=THUMB, headers=sent)
        assert answer.status_code == 202


def test_an_origin_that_is_named_may_use_the_api(start: Callable[..., Running]) -> None:
    origin = "https://product.example"
    running = start(allowed_origins=(origin,))
    sent = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    answer = running.http("POST", "/v1/feedback", json=THUMB, headers=sent)
    assert answer.status_code == 202
    assert answer.headers["access-control-allow-origin"] == origin
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    assert running.http("OPTIONS", "/v1/feedback", headers=asked).status_code == 200
    other = running.http(
        "POST", "/v1/feedback", json=THUMB, headers={"Origin": "https://e.example"}
    )
    assert code(other, 403) == "origin_not_allowed"


hosts = st.sampled_from(["127.0.0.1:8080", "localhost", "burnish.example", "[::1]:80"])


@given(hosts, hosts, st.sampled_from([None, "same-origin", "none", "same-site", "cross-site"]))
def test_a_site_is_its_own_if_browser_and_host_agree(host: str, of: str, site: str | None) -> None:
    headers = {"host": host, "origin": f"http://{of}"}
    if site is not None:
        headers["sec-fetch-site"] = site
    own = host == of and site in (None, "same-origin", "none")
    if own:
        check_site(headers, frozenset())
    else:
        with pytest.raises(ApiError):
            check_site(headers, frozenset())
    check_site(headers, frozenset([f"http://{of}"]))


@pytest.mark.parametrize("path", ["/", "/v1/models", "/readyz", "/metrics", "/static/app.js"])
def test_a_rebound_name_reaches_nothing(start: Callable[..., Running], path: str) -> None:
    running = start(allowed_hosts=("burnish.internal",))
    for host in ("evil.example", "evil.example:8080", "[::1", "127.0.0.1.evil.example"):
        answer = running.http("GET", path, headers={"Host": host})
        assert answer.status_code in (400, 403), host
    for host in ("localhost", "127.0.0.1:9", "[::1]:8080", "Burnish.internal:80"):
        assert running.http("GET", path, headers={"Host": host}).status_code in (200, 404), host


def test_the_name_in_a_host_header() -> None:
    named = {
        "a.example:80": "a.example",
        "[::1]:80": "[::1]",
        "[::1]": "[::1]",
        "LOCALHOST": "localhost",
    }
    assert {host: host_name(host) for host in named} == named


# -- keys, scopes, tenants -----------------------------------------------------------------------


def test_a_session_takes_the_scope_memory(running: Running) -> None:
    chat_only, both = key(running, "acme", "chat"), key(running, "acme", "chat", "memory")
    asked = {**CHAT, "session_id": "s"}
    refused = chat_only.http("POST", "/v1/chat/completions", json=asked)
    assert code(refused, 403) == "missing_scope"
    assert refused.json()["error"]["param"] == "session_id"
    assert "'memory'" in refused.json()["error"]["message"]
    assert chat_only.http("POST", "/v1/responses/compact", json={"input": "x"}).status_code == 403
    assert both.http("POST", "/v1/chat/completions", json=asked).status_code == 503  # no Redis here


def test_lineage_shows_a_tenant_its_own(running: Running, make_adapter: Callable[..., Any]) -> None:
    learnt = ["acme/fb-1", "acme-2/fb-2", "other/fb-3", "acme/fb-4#1"]
    registry = running.service.registry
    registry.register(
        "default", make_adapter(), parent=1, lineage={"feedback_ids": learnt, "steps": 3}
    )
    path = "/v1/policies/default/versions/2"

    def lineage(asking: Running) -> dict[str, Any]:
        return asking.http("GET", path).json()["lineage"]

    assert lineage(running)["feedback_ids"] == learnt  # without keys there is one tenant
    acme, admin = key(running, "acme", "chat"), key(running, "ops", "admin")
    assert lineage(acme) == {"feedback_ids": ["acme/fb-1", "acme/fb-4#1"], "steps": 3}
    assert lineage(key(running, "nobody", "chat"))["feedback_ids"] == []
    assert lineage(admin)["feedback_ids"] == learnt


def test_of_a_long_lineage_only_so_many_votes_are_listed_and_all_are_counted(
    running: Running, make_adapter: Callable[..., Any]
) -> None:
    learnt = [f"acme/fb-{n}" for n in range(7)] + ["other/fb-8"]
    registry = running.service.registry
    registry.register("default", make_adapter(), parent=1, lineage={"feedback_ids": learnt})
    acme, admin = key(running, "acme", "chat"), key(running, "ops", "admin")

    def told(asking: Running, votes: int) -> tuple[int, list[str]]:
        path = f"/v1/policies/default/versions/2?votes={votes}"
        version = asking.http("GET", path).json()
        return version["votes"], version["lineage"]["feedback_ids"]

    assert told(admin, 2) == (8, learnt[:2])
    assert told(admin, 0) == (8, [])
    assert told(acme, 100) == (7, learnt[:7])
    assert admin.http("GET", "/v1/policies/default/versions/2?votes=-1").status_code == 400


def test_what_tells_of_all_tenants_is_the_admins(running: Running) -> None:
    assert running.http("GET", "/metrics").status_code == 200
    assert "problems" in running.http("GET", "/readyz").json()
    acme, admin = key(running, "acme", "chat"), key(running, "ops", "admin")
    nobody = running.with_key("wrong")
    assert [asking.http("GET", "/metrics").status_code for asking in (nobody, acme, admin)] == [
        401,
        403,
        200,
    ]
    for asking in (nobody, acme):
        assert set(asking.http("GET", "/readyz").json()) == {"status"}
    assert "stream" in admin.http("GET", "/readyz").json()
    assert nobody.http("GET", "/healthz").status_code == 200
    assert nobody.http("GET", "/").status_code == 200


async def test_liveness_needs_nothing_of_the_key_store(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that hangs holds up those who need it, and nobody else."""
    import threading

    hang = threading.Event()
    monkeypatch.setattr(KeyStore, "check", lambda *_: hang.wait(20))
    async with httpx.AsyncClient(base_url=running.url) as http:
        slow = asyncio.create_task(http.get("/v1/models", headers={"Authorization": "Bearer x"}))
        try:
            for _ in range(3):
                assert (await http.get("/healthz", timeout=5)).status_code == 200
            assert not slow.done()
        finally:
            hang.set()
        await slow
