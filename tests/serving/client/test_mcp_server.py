"""Memory over MCP, by the official SDK's client: in process, over standard input and output, over HTTP."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running, closed_port
from tests.waiting import eventually

mcp = pytest.importorskip("mcp", reason="extra not installed: mcp")

SAID = [{"role": "user", "content": "Never deploy on Fridays. My name is Ana."}]
TOOLS = {"append", "context", "search", "records", "remember", "forget"}


@pytest.fixture
def service(serve: Callable[..., Running], settings: ServingSettings, redis_url: str) -> Running:
    return serve(settings.model_copy(update={"redis_url": redis_url}), StubEngine("Hello there."))


@pytest.fixture
def command(service: Running, tmp_path: Any) -> list[str]:
    folder = ["--data-dir", str(tmp_path / "none"), "--url", service.url]
    return [sys.executable, "-m", "burnish.ops.cli", "mcp", *folder]


@pytest.fixture
def address(command: list[str]) -> Iterator[str]:
    """Of a server over HTTP."""
    port = closed_port()
    process = subprocess.Popen([*command, "--port", str(port)])
    try:
        eventually(lambda: listens(port))
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(30)


def listens(port: int) -> bool:
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


async def call(client: Any, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def use_everything(client: Any, session: str) -> None:
    assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
    kept = await call(client, "append", session=session, events=SAID, user="ana")
    assert kept["events"][0]["cursor"] == "1"
    view = await call(client, "context", session=session, budget=500)
    assert view["messages"][0]["content"] == SAID[0]["content"]
    for where in {"session": session}, {"user": "ana"}:
        found = await call(client, "search", query="Fridays", **where)
        assert "Fridays" in str(found["results"][0])
    fact = {"subject": "ana", "predicate": "city", "user": "ana"}
    await call(client, "remember", text="Ana lives in Kyiv.", value="Kyiv", **fact)
    await call(client, "remember", text="Ana lives in Lviv.", value="Lviv", **fact)
    held = await call(client, "records", query="where does Ana live", user="ana")
    assert [record["value"] for record in held["records"]] == ["Lviv"]
    await call(client, "forget", session=session)
    gone = await client.call_tool("context", {"session": session})
    assert gone.is_error
    await call(client, "forget", user="ana")
    assert (await call(client, "records", user="ana"))["records"] == []


async def test_an_agents_host_starts_it_and_uses_everything(command: list[str]) -> None:
    from mcp import Client, StdioServerParameters

    started = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
    async with Client(started) as client:
        await use_everything(client, "over-stdio")


async def test_everything_works_over_http(address: str) -> None:
    async with mcp.Client(address) as client:
        await use_everything(client, "over-http")


async def test_what_is_refused_says_which_argument(command: list[str], service: Running) -> None:
    from burnish.serving.client.mcp_server import Service, memory_server

    async with mcp.Client(memory_server(Service(service.url), "0")) as client:
        wrong = await client.call_tool("append", {"session": "s", "events": [{"role": "oracle"}]})
        assert wrong.is_error
        assert "role must be one of" in wrong.content[0].text
        both = await client.call_tool("search", {"query": "x", "session": "s", "user": "u"})
        assert both.is_error
        assert "either a session or a user" in both.content[0].text
    away = Service(f"http://127.0.0.1:{closed_port()}")
    async with mcp.Client(memory_server(away, "0")) as client:
        down = await client.call_tool("context", {"session": "s"})
        assert "no answer from the service" in down.content[0].text


@pytest.mark.parametrize(
    ("header", "key"),
    [(None, None), ("Bearer bk-1", "bk-1"), ("bearer  bk-1 ", "bk-1"), ("Basic x", None)],
)
def test_a_callers_key_is_its_own(header: str | None, key: str | None) -> None:
    from burnish.serving.client.mcp_server import bearer_of

    assert bearer_of(header) == key
