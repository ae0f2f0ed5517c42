"""/v1/memory over HTTP: shapes, status codes that say what to do, tenants from keys alone."""

import json
import uuid
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx2 as httpx
import pytest
from burnish.memory import MemoryStore, connect
from burnish.serving.api.errors import install
from burnish.serving.api.routes.memory import router
from fastapi import FastAPI, Request


@pytest.fixture
async def http(redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    client = connect(redis_url)
    store = MemoryStore(client, lambda text: len(text.split()))
    run = uuid.uuid4().hex

    async def who(request: Request) -> SimpleNamespace:
        return SimpleNamespace(tenant=f"{run}-{request.headers.get('authorization', 'local')}")

    app = FastAPI()
    install(app)
    app.include_router(router(lambda: store, who))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t/v1/memory") as http:
        yield http
    await client.aclose()


def events(*texts: str) -> dict:
    return {"events": [{"role": "user", "content": text} for text in texts]}


def error(answer: httpx.Response, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    return answer.json()["error"]["message"]


async def test_a_session_from_first_step_to_forgotten(http: httpx.AsyncClient):
    made = await http.post("/sessions/s/events", json=events("the key is under the mat", "ok"))
    assert made.status_code == 201
    assert set(made.json()["events"][0]) == {"id", "cursor", "tokens"}
    view = (await http.get("/sessions/s/context?budget=100")).json()
    assert view["messages"][1] == {"role": "user", "content": "ok", "cursors": ["2"]}
    assert view["tokens"] == sum(event["tokens"] for event in made.json()["events"])
    found = (await http.get("/sessions/s/search", params={"query": "key?"})).json()["results"]
    assert [hit["cursor"] for hit in found] == ["1"]
    page = (await http.get("/sessions/s/events?after=1")).json()["events"]
    assert [step["content"] for step in page] == ["ok"]
    assert (await http.post("/sessions/s/pin", json={"cursor": "1"})).status_code == 200
    stats = (await http.get("/sessions/s/stats")).json()
    assert (stats["pinned"], stats["newest"]) == (1, "2")
    pins = (await http.get("/sessions/s/pins")).json()["pins"]
    assert pins == [{"cursor": "1", "why": "user"}]
    assert (await http.post("/forget", json={"session_id": "s"})).json() == {"steps": 2}
    error(await http.get("/sessions/s/context?budget=9"), 410, "forgotten")


async def test_records_from_put_to_forgotten(http: httpx.AsyncClient):
    made = await http.post("/records", json={"id": "a", "text": "likes tea", "user": "ana"})
    assert made.status_code == 201
    assert (await http.get("/records/a")).json()["text"] == "likes tea"
    assert len((await http.get("/records?user=ana")).json()["records"]) == 1
    hits = (await http.get("/records/search", params={"query": "tea"})).json()["results"]
    assert hits[0]["score"] > 0
    assert (await http.delete("/records/a")).status_code == 204
    error(await http.delete("/records/a"), 404, "record_not_found")
    assert (await http.post("/forget", json={"record_id": "a"})).json() == {"records": 0}
    error(await http.post("/records", json={"id": "a", "text": "x"}), 410, "forgotten")


async def test_a_fact_has_its_time_and_its_version(http: httpx.AsyncClient):
    home = {"user": "ana", "subject": "ana", "predicate": "lives in"}
    old = {**home, "value": "Lisbon", "valid_from": "2024-05-01T00:00:00Z"}
    old = (await http.post("/records", json=old)).json()
    new = (await http.post("/records", json={**home, "value": "Porto"})).json()
    assert new["supersedes"] == old["id"]

    async def held(**asked: str) -> list[str]:
        page = (await http.get("/records", params={"user": "ana", **asked})).json()["records"]
        found = await http.get("/records/search", params={"query": "ana", "user": "ana", **asked})
        assert {r["id"] for r in found.json()["results"]} == {r["id"] for r in page}
        return [record["value"] for record in page]

    assert await held() == ["Porto"]
    assert await held(as_of="2024-06-01") == ["Lisbon"]
    assert await held(as_of="1.0") == []
    assert await held(include_superseded="true") == ["Lisbon", "Porto"]
    at = f"/records/{new['id']}"
    pinned = (await http.patch(at, json={"pinned": True, "if_version": new["version"]})).json()
    assert pinned["pinned"] is True
    late = await http.patch(at, json={"text": "late", "if_version": new["version"]})
    assert str(pinned["version"]) in error(late, 409, "stale_version")
    assert (await http.post(f"{at}/feedback", json={"value": -1})).status_code == 204
    assert (await http.get(at)).json()["feedback"] == -1
    error(await http.get("/records?as_of=soon"), 400, "invalid_value")
    error(await http.post("/records", json={"text": "x", "valid_until": 1}), 400, "bad_step")


async def test_facts_are_taken_out_of_a_session(http: httpx.AsyncClient):
    await http.post("/sessions/s/events", json=events("My name is Ana.", "Is it late?"))
    trial = (await http.post("/sessions/s/extract", json={"dry_run": True})).json()
    assert [fact["value"] for fact in trial["facts"]] == ["Ana"]
    made = (await http.post("/sessions/s/extract", json={"user": "ana"})).json()
    assert (made["created"], made["facts"][0]["cursors"]) == (1, ["1"])
    assert len((await http.get("/records?user=ana")).json()["records"]) == 1
    error(await http.post("/sessions/none/extract", json={}), 404, "session_not_found")
    error(await http.post("/sessions/s/extract", json={"roles": ["wizard"]}), 400, "bad_step")


async def test_policies_of_forgetting_tell_before_they_act(http: httpx.AsyncClient):
    home = {"user": "ana", "subject": "ana", "predicate": "lives in"}
    for place in ("Lisbon", "Porto"):
        await http.post("/records", json={**home, "id": place, "value": place})
    trial = {"policy": "superseded", "user": "ana", "dry_run": True}
    told = (await http.post("/forget", json=trial)).json()
    assert [(one["id"], one["why"]) for one in told["listed"]] == [
        ("Lisbon", "superseded by Porto since 0 s")
    ]
    assert (await http.get("/records/Lisbon")).status_code == 200
    done = (await http.post("/forget", json={"policy": "superseded"})).json()
    assert done["records"] == 1
    error(await http.get("/records/Lisbon"), 404, "record_not_found")
    for bad in (
        {"policy": "moods"},
        {"user": "a", "dry_run": True},
        {"policy": "expired", "record_id": "a"},
    ):
        error(await http.post("/forget", json=bad), 400, "invalid_value")
    error(await http.post("/forget", json={"policy": "unlikely"}), 400, "bad_step")


async def test_all_about_an_end_user_is_handed_over_and_erased(http: httpx.AsyncClient):
    await http.post("/sessions/s/events", json={**events("hello"), "user": "ana"})
    await http.post("/records", json={"text": "likes tea", "user": "ana"})
    command = {"command": "create", "path": "/memories/a", "file_text": "x"}
    await http.post("/tool", json={"user": "ana", "input": command})
    answer = await http.get("/export?user=ana")
    assert answer.headers["content-type"] == "application/x-ndjson"
    kept = [json.loads(line) for line in answer.text.splitlines()]
    assert [one["type"] for one in kept] == ["record", "file", "session", "step"]
    gone = (await http.post("/forget", json={"user": "ana"})).json()
    assert gone == {"sessions": 1, "steps": 1, "records": 1, "files": 1}
    assert (await http.get("/export?user=ana")).text == ""


async def test_the_memory_tool_answers_as_a_tool_result(http: httpx.AsyncClient):
    command = {"command": "create", "path": "/memories/a", "file_text": "x"}
    made = await http.post("/tool", json={"user": "ana", "input": command})
    told = {"content": "File created successfully at: /memories/a", "is_error": False}
    assert made.json() == told
    again = await http.post("/tool", json={"user": "ana", "input": command})
    assert (again.status_code, again.json()["is_error"]) == (200, True)
    view = {"user": "ben", "input": {"command": "view", "path": "/memories/a"}}
    assert (await http.post("/tool", json=view)).json()["is_error"] is True
    error(await http.post("/tool", json={"input": {"command": "format"}}), 400, "bad_step")


async def test_bad_requests_say_what_to_do(http: httpx.AsyncClient):
    await http.post("/sessions/s/events", json=events("one"))
    error(await http.get("/sessions/none/context?budget=9"), 404, "session_not_found")
    error(await http.get("/sessions/s/events?after=x"), 400, "bad_cursor")
    error(await http.post("/forget", json={}), 400, "invalid_value")
    error(await http.post("/sessions/s/events", json={"events": []}), 400, "invalid_value")
    wizard = {"events": [{"role": "wizard", "content": "x"}]}
    assert "user" in error(await http.post("/sessions/s/events", json=wizard), 400, "bad_step")
    large = events("x" * 300_000)
    error(await http.post("/sessions/s/events", json=large), 413, "too_large")
    pinned = {"events": [{"role": "system", "content": "word " * 30}]}
    await http.post("/sessions/s/events", json=pinned)
    small = await http.get("/sessions/s/context?budget=9")
    assert "43" in error(small, 400, "budget_too_small")
    twice = [{"events": [{"id": "a", "role": "user", "content": c}]} for c in "xy"]
    assert (await http.post("/sessions/s/events", json=twice[0])).status_code == 201
    error(await http.post("/sessions/s/events", json=twice[1]), 409, "id_conflict")


async def test_a_key_sees_only_its_tenant(http: httpx.AsyncClient):
    await http.post("/sessions/s/events", json=events("mine"))
    other = {"authorization": "other"}
    error(await http.get("/sessions/s/stats", headers=other), 404, "session_not_found")
    named = {"events": [{"role": "user", "content": "x"}], "tenant": "local"}
    answer = await http.post("/sessions/s/events", json=named, headers=other)
    error(answer, 400, "unknown_parameter")


async def test_without_redis_it_says_so():
    client = connect("redis://127.0.0.1:1/0")
    store = MemoryStore(client, len)
    app = FastAPI()
    install(app)
    app.include_router(router(lambda: store, lambda: SimpleNamespace(tenant="t")))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as http:
        answer = await http.get("/v1/memory/sessions/s/stats")
    error(answer, 503, "memory_unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_a_compaction_over_http_from_dry_run_to_undo(http: httpx.AsyncClient):
    await http.post("/sessions/s/events", json=events(*(f"step {n} of many" for n in range(60))))
    ask = {"policy": "summary", "budget": 200, "dry_run": True}
    tried = (await http.post("/sessions/s/compact", json=ask)).json()
    assert (tried["plan"], tried["tokens_before"]) == (None, 60 * 10)
    assert tried["tokens_after"] <= 200
    made = (await http.post("/sessions/s/compact", json=ask | {"dry_run": False})).json()
    assert made["plan"] == "p1"
    assert made["left"][0]["verdict"] == "summarise"
    view = (await http.get("/sessions/s/context?budget=300")).json()
    assert view["plan"] == "p1"
    node = next(message["node"] for message in view["messages"] if "node" in message)
    behind = (await http.post("/sessions/s/expand", json={"node": node, "limit": 5})).json()
    assert [step["cursor"] for step in behind["steps"]] == ["1", "2", "3", "4", "5"]
    assert behind["next"] == "5"
    listed = (await http.get("/sessions/s/compactions")).json()["compactions"]
    assert [plan["tokens_before"] for plan in listed] == [600]
    why = (await http.get("/sessions/s/compactions/p1?limit=1")).json()["verdicts"][0]
    assert (why["cursor"], why["why"]) == ("1", "older than the tail")
    stats = (await http.get("/sessions/s/stats")).json()
    assert stats["tokens_saved"] == 600 - made["tokens_after"]
    assert (await http.post("/sessions/s/undo", json={})).json()["undone"]["kind"] == "compact"
    assert (await http.post("/sessions/s/revert", json={"plan": "p1"})).json()["plan"] == "p1"
    then = (await http.get("/sessions/s/context?budget=900&version=1")).json()
    assert (len(then["messages"]), then["plan"]) == (60, None)
    kinds = [c["kind"] for c in (await http.get("/sessions/s/changes")).json()["changes"]]
    assert kinds == ["switch", "switch", "compact"]


async def test_delete_and_undo_over_http(http: httpx.AsyncClient):
    await http.post("/sessions/s/events", json=events("one", "two"))
    gone = await http.post("/sessions/s/delete", json={"cursors": ["1"], "grace_s": 60})
    assert gone.json()["steps"] == ["1"]
    assert len((await http.get("/sessions/s/events")).json()["events"]) == 1
    assert (await http.post("/sessions/s/undo", json={"version": 2})).status_code == 200
    assert len((await http.get("/sessions/s/events")).json()["events"]) == 2
    error(await http.post("/sessions/s/undo", json={"version": 2}), 404, "plan_not_found")


async def test_a_policy_for_one_view_alone(http: httpx.AsyncClient):
    await http.post("/sessions/s/events", json=events(*(f"step {n} of many" for n in range(60))))
    for policy in ("recent", "clear_tools", "bm25", "summary"):
        ask = {"budget": 200, "policy": policy, "query": "step 7"}
        view = (await http.get("/sessions/s/context", params=ask)).json()
        assert 0 < view["tokens"] <= 200
        assert view["version"] == 1
    ask = {"budget": 200, "policy": "magic"}
    error(await http.get("/sessions/s/context", params=ask), 400, "unknown_policy")


async def test_bad_compactions_say_what_to_do(http: httpx.AsyncClient):
    await http.post("/sessions/s/events", json=events("one", "two"))
    ask = {"policy": "recent", "budget": 50}
    error(await http.post("/sessions/none/compact", json=ask), 404, "session_not_found")
    error(await http.post("/sessions/s/compact", json=ask | {"version": 9}), 409, "stale_version")
    error(await http.post("/sessions/s/compact", json=ask | {"budget": 0}), 400, "invalid_value")
    error(await http.post("/sessions/s/revert", json={}), 404, "plan_not_found")
    error(await http.post("/sessions/s/expand", json={}), 400, "invalid_value")
    error(await http.post("/sessions/s/expand", json={"cursors": ["9"]}), 400, "bad_cursor")
    wrong = {"cursors": ["1"], "grace_s": 0}
    assert "forget" in error(await http.post("/sessions/s/delete", json=wrong), 400, "bad_step")
    error(await http.get("/sessions/s/context?budget=9&version=7"), 409, "stale_version")


async def test_a_slash_in_a_session_id_is_routed(http: httpx.AsyncClient):
    for name in ("a/b", "a/events", "team/2026/ana"):
        path = f"/sessions/{name.replace('/', '%2F')}"
        assert (await http.post(f"{path}/events", json=events(f"in {name}"))).status_code == 201
        (step,) = (await http.get(f"{path}/events")).json()["events"]
        assert step["content"] == f"in {name}"
        assert (await http.get(f"{path}/stats")).json()["session_id"] == name
        made = await http.post(f"{path}/compact", json={"policy": "recent", "budget": 50})
        assert (await http.get(f"{path}/compactions/{made.json()['plan']}")).status_code == 200


async def test_the_message_of_a_completion_is_appended_as_it_is(http: httpx.AsyncClient):
    message = {
        "role": "assistant",
        "content": "42",
        "refusal": None,
        "reasoning": "six by seven",
        "reasoning_content": "six by seven",
        "annotations": [],
        "tool_calls": None,
        "audio": None,
        "function_call": None,
    }
    made = await http.post("/sessions/s/events", json={"events": [message]})
    assert made.status_code == 201
    (step,) = (await http.get("/sessions/s/events")).json()["events"]
    assert step["content"] == "42"
    assert "reasoning" not in step


async def test_imported_steps_keep_their_own_time(http: httpx.AsyncClient):
    old = {"role": "user", "content": "hi", "at": "2024-02-03T04:05:06Z"}
    older = {"role": "user", "content": "earlier", "at": 0}
    await http.post("/sessions/s/events", json={"events": [old, older]})
    log = (await http.get("/sessions/s/events")).json()["events"]
    assert [step["at"] for step in log] == ["2024-02-03T04:05:06Z", "1970-01-01T00:00:00Z"]
    for wrong in ("yesterday", -5, 1e15):
        bad = {"events": [{"role": "user", "content": "x", "at": wrong}]}
        refused = await http.post("/sessions/s/events", json=bad)
        assert refused.status_code == 400, wrong


async def test_an_end_users_sessions_are_listed_and_searched(http: httpx.AsyncClient):
    name = "п" * 256
    for session, text in (("b", "the otter sleeps"), ("a", "an otter and an otter"), ("c", "soup")):
        body = {**events(text), "user": name}
        assert (await http.post(f"/sessions/{session}/events", json=body)).status_code == 201
    await http.post("/sessions/other/events", json=events("otter of nobody"))
    listed = (await http.get("/sessions", params={"user": name, "limit": 2})).json()["sessions"]
    assert [one["session_id"] for one in listed] == ["a", "b"]
    rest = (await http.get("/sessions", params={"user": name, "after": "b"})).json()["sessions"]
    assert [one["session_id"] for one in rest] == ["c"]
    hits = (await http.get("/sessions/search", params={"user": name, "query": "otters"})).json()
    assert {hit["session_id"] for hit in hits["results"]} == {"a", "b"}
    record = {"text": "a fact", "user": name}
    assert (await http.post("/records", json=record)).status_code == 201
    for path in ("/records", "/sessions/a/events"):
        refused = await http.post(path, json={**record, **events("x"), "user": "x" * 257})
        assert refused.status_code == 400
