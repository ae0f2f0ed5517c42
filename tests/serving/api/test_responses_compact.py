"""/v1/responses/compact: items in, fewer items out, that can be sent again."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx2 as httpx
import pytest
from burnish.memory import MemoryStore, connect
from burnish.serving.api.errors import install
from burnish.serving.api.routes.compact import router
from fastapi import FastAPI

from tests.serving.conftest import Running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    client = connect("redis://127.0.0.1:1/0")  # nothing is stored, so nothing is needed
    store = MemoryStore(client, lambda text: len(text.split()))
    app = FastAPI()
    install(app)
    app.include_router(router(lambda: store, lambda: 500, lambda: SimpleNamespace(tenant="t")))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as http:
        yield http
    await client.aclose()


def says(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def calls(name: str) -> list[dict[str, Any]]:
    asked = {"type": "function_call", "call_id": name, "name": "look", "arguments": "{}"}
    return [asked, {"type": "function_call_output", "call_id": name, "output": "noise " * 60}]


CONVERSATION: list[dict[str, Any]] = [
    says("system", "Be brief."),
    says("user", "The vault code is 4471."),
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Noted."}],
    },
    {"type": "reasoning", "summary": []},
    *[item for n in range(12) for item in calls(f"c{n}")],
    says("user", "What is the vault code?"),
]


async def test_it_keeps_what_matters_and_whole_pairs(http: httpx.AsyncClient):
    body = {"model": "default", "input": CONVERSATION, "budget": 200}
    answer = (await http.post("/v1/responses/compact", json=body)).json()
    assert answer["object"] == "response.compaction"
    usage = answer["usage"]
    assert usage["output_tokens"] <= 200 < usage["input_tokens"]
    kept = answer["output"]
    assert kept[0] == CONVERSATION[0]
    assert kept[-1] == CONVERSATION[-1]
    assert CONVERSATION[1] in kept
    asked = {item["call_id"] for item in kept if item["type"] == "function_call"}
    told = {item["call_id"] for item in kept if item["type"] == "function_call_output"}
    assert asked == told
    assert "expand" not in str(kept)
    again = (await http.post("/v1/responses/compact", json={**body, "input": kept})).json()
    assert again["output"] == kept


async def test_the_default_budget_is_a_share_of_the_window(http: httpx.AsyncClient):
    answer = (await http.post("/v1/responses/compact", json={"input": CONVERSATION})).json()
    assert answer["usage"]["output_tokens"] <= 200
    alone = (await http.post("/v1/responses/compact", json={"input": "hello"})).json()
    assert alone["output"] == [says("user", "hello")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"input": CONVERSATION, "budget": 5}, "budget_too_small"),
        ({"input": CONVERSATION, "policy": "moods"}, "unknown_policy"),
        ({"input": []}, "bad_step"),
        ({"input": calls("c")[1:]}, "bad_step"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "unsupported_item"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "unsupported_item"),
        ({"input": "x", "previous_response_id": "r"}, "unsupported_parameter"),
        ({"input": [{"role": "user", "content": 3}]}, "invalid_value"),
    ],
)
async def test_what_cannot_be_compacted_is_said(http: httpx.AsyncClient, body: dict, code: str):
    answer = await http.post("/v1/responses/compact", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), answer.text


def test_openais_client_can_ask_the_real_service(running: Running):
    done = running.openai.post(
        "/responses/compact", body={"input": "hello", "model": "default"}, cast_to=object
    )
    assert done["output"] == [says("user", "hello")]  # type: ignore[index]
