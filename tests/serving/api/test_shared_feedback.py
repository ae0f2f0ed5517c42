"""Two replicas answer for one another's feedback: what one accepted, the other shows and takes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually


@pytest.fixture
def replicas(
    serve: Callable[..., Running],
    settings: ServingSettings,
    tmp_path: Path,
    redis_client: redis.Redis,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> list[Running]:
    monkeypatch.setenv("BURNISH_SECRET", "the same on all")
    common = {"redis_url": redis_url, "fleet": True}
    return [
        serve(
            settings.model_copy(update={**common, "data_dir": tmp_path / name}),
            StubEngine("Hello there."),
        )
        for name in "ab"
    ]


def give(replica: Running, **body: Any) -> dict[str, Any]:
    answer = replica.http("POST", "/v1/feedback", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()


def shown(replica: Running, interaction: str) -> list[tuple[str, Any]]:
    answer = replica.http("GET", "/v1/feedback", params={"interaction_id": interaction})
    return [(one["id"], one["value"]) for one in answer.json()["data"]]


def test_a_vote_is_everywhere_once_it_is_accepted(replicas: list[Running]):
    here, there = replicas
    interaction = here.say("Hi").id
    vote = {"id": "f1", "interaction_id": interaction, "name": "thumbs", "user": "ann"}
    assert give(there, **vote, value="up")["status"] == "stored"
    assert give(here, **vote, value="up")["status"] == "unchanged"
    assert shown(here, interaction) == shown(there, interaction) == [("f1", "up")]
    assert give(here, **vote, value="down")["status"] == "replaced"
    assert there.http("GET", "/v1/feedback/f1").json()["value"] == "down"


def test_it_is_taken_back_on_any(replicas: list[Running]):
    here, there = replicas
    interaction = here.say("Hi").id
    give(here, id="f1", interaction_id=interaction, name="thumbs", value="up")
    assert there.http("DELETE", "/v1/feedback/f1").status_code == 200
    assert here.http("GET", "/v1/feedback/f1").json()["state"] == "retracted"
    assert shown(here, interaction) == []
    assert there.http("DELETE", "/v1/feedback/f2").status_code == 202, "known elsewhere, perhaps"


def test_readiness_tells_of_a_ledger_that_is_away_and_votes_are_taken(
    serve: Callable[..., Running], settings: ServingSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BURNISH_SECRET", "the same on all")
    alone = serve(settings.model_copy(update={"fleet": True}), StubEngine("Hello there."))
    interaction = alone.say("Hi").id
    give(alone, id="f1", interaction_id=interaction, name="thumbs", value="up")
    assert shown(alone, interaction) == [("f1", "up")]
    told = alone.http("GET", "/readyz").json()
    assert told["status"] == "degraded"
    assert any("told to the other replicas later" in problem for problem in told["problems"])


def test_a_response_goes_on_at_another_replica(replicas: list[Running]):
    here, there = replicas
    first = here.http("POST", "/v1/responses", json={"model": "default", "input": "Hi"}).json()
    eventually(lambda: there.http("GET", f"/v1/responses/{first['id']}").status_code == 200, 10)
    on = {"model": "default", "input": "And?", "previous_response_id": first["id"]}
    assert there.http("POST", "/v1/responses", json=on).status_code == 200
