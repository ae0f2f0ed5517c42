"""`burnish erase`: first what would go, then the erasure, said in words; against a service in this process."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from burnish.ops.commands import erase
from burnish.ops.commands.client import ServiceClient, ServiceDown
from burnish.ops.settings import UpSettings
from rich.console import Console

from tests.conftest import free_port


class Answers(ServiceClient):
    """Answers of a service, one after the other."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers, self.asked = list(answers), []

    def get(self, path: str, **_: Any) -> Any:
        self.asked.append(("GET", path))
        return self.answers.pop(0)

    def post(self, path: str, body: Any = None) -> Any:
        self.asked.append(("POST", body))
        return self.answers.pop(0)


def told(
    state: str, versions: dict[str, list[int]] | None = None, **removed: Any
) -> dict[str, Any]:
    return {"id": "erase-1", "state": state, "removed": removed, "versions": versions or {}}


@pytest.fixture
def said() -> Console:
    return Console(file=StringIO(), width=200)


def text(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_dry_run_says_what_would_go_and_where(said: Console):
    service = Answers(
        told("finished", {"default": [2, 3]}, database={"interactions": 2}, memory={"steps": 4})
    )
    assert erase.count(service, "ada", said)["removed"]
    assert service.asked == [("POST", {"user": "ada", "dry_run": True})]
    assert "database: 2 interactions would be erased" in text(said)
    assert "memory: 4 steps would be erased" in text(said)
    assert "default: versions 2, 3 have learnt from them" in text(said)


def test_of_somebody_unknown_it_says_so(said: Console):
    assert erase.count(Answers(told("finished")), "nobody", said)["removed"] == {}
    assert "nothing is held" in text(said)


@pytest.mark.parametrize(
    ("states", "versions", "end"),
    [
        (["served", "weights"], {"default": [2]}, "begins anew from the base"),
        (["served", "weights"], {}, "may have read of them"),
        (["served", "served", "finished"], {}, "no version has learnt"),
    ],
)
def test_it_waits_for_the_stores(
    said: Console,
    monkeypatch: pytest.MonkeyPatch,
    states: list[str],
    versions: dict[str, list[int]],
    end: str,
):
    monkeypatch.setattr(erase, "POLL_S", 0)
    service = Answers(*(told(state, versions, database={"judgements": 1}) for state in states))
    erase.run(service, "ada", said, 60.0)
    assert service.asked[1:] == [("GET", "/v1/erase/erase-1")] * (len(states) - 1)
    assert end in text(said)
    assert "receipt: GET /v1/erase/erase-1" in text(said)


def test_a_learner_that_is_away_is_told(said: Console):
    erase.run(Answers(told("served")), "ada", said, 0.0)
    assert "as soon as the learner is there" in text(said)


def test_without_a_service_it_says_how_to_start_one(said: Console):
    settings = UpSettings(url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ServiceDown, match="burnish up"):
        erase.count(ServiceClient(settings), "ada", said)
