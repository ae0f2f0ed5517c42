"""What the service shows of its vLLM servers, and what it takes as their addresses."""

import re
from collections.abc import Callable
from pathlib import Path

import openai
import pytest
from burnish.serving.app import load_engine
from burnish.serving.settings import ServingSettings
from pydantic import ValidationError

from tests.serving.conftest import Running

from .conftest import Server


@pytest.fixture
def running(
    serve: Callable[..., Running],
    settings: ServingSettings,
    pair: list[Server],
    tiny_model: Path,
) -> Running:
    chosen = settings.model_copy(
        update={
            "model": tiny_model,
            "engine_url": ", ".join(server.url for server in pair),
            "engine_key": "key",
        }
    )
    return serve(chosen, load_engine(chosen))


def figures(running: Running) -> dict[tuple[str, str], float]:
    """Of the servers, by address and name."""
    text = running.http("GET", "/metrics").text
    found = re.findall(r'^burnish_engine_server\{server="(.+)",what="(.+)"\} (\S+)$', text, re.M)
    return {(server, what): float(value) for server, what, value in found}


def test_it_shows_which_server_serves_how_much(running: Running, pair: list[Server]) -> None:
    for text in ("Hi", "Ho", "Ha"):
        running.say(text, max_tokens=4, user="ann")
    shown = figures(running)
    for server, requests in ((pair[0].url, 2), (pair[1].url, 1)):
        assert shown[server, "up"] == 1
        assert shown[server, "requests_total"] == requests
        assert shown[server, "tokens_total"] == 4 * requests
        assert shown[server, "failures_total"] == shown[server, "running"] == 0
    assert "ann" not in running.http("GET", "/metrics").text


def test_it_is_degraded_while_a_server_is_away_and_names_it(
    running: Running, pair: list[Server]
) -> None:
    pair[1].kill()
    for text in ("Hi", "Ho"):
        running.say(text, max_tokens=4)  # whoever it is sent to first
    ready = running.http("GET", "/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    (told,) = (p for p in ready.json()["problems"] if p.startswith("engine"))
    assert f"{pair[1].url} is away" in told
    assert figures(running)[pair[1].url, "up"] == 0


def test_it_is_not_ready_without_any(running: Running, pair: list[Server]) -> None:
    for server in pair:
        server.kill()
    with pytest.raises(openai.InternalServerError) as told:
        running.say("Hi")
    assert all(server.url in str(told.value) for server in pair)
    ready = running.http("GET", "/readyz")
    assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
    assert all(server.url in str(ready.json()["problems"]) for server in pair)


def test_addresses_are_split_at_commas() -> None:
    assert ServingSettings().engine_urls == ()
    assert ServingSettings(engine_url="http://a:8000").engine_urls == ("http://a:8000",)
    several = ServingSettings(engine_url="http://a:8000/, https://b/prefix")
    assert several.engine_urls == ("http://a:8000", "https://b/prefix")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("http://a:8000,", "every address"),
        ("a:8000", "http://HOST:PORT"),
        ("http://a:8000,http://a:8000/", "twice"),
        ("http://a:8000,http://u:p/w@b:1", "cannot be read"),
    ],
)
def test_what_is_no_list_of_addresses_is_refused(given: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ServingSettings(engine_url=given)
