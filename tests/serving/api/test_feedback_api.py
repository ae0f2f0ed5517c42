"""Feedback over HTTP: accepted when durable, checked, idempotent, retracted."""

from __future__ import annotations

from typing import Any

import pytest
from burnish.feedback.events import FeedbackEvent, RetractionEvent, decode
from burnish.serving.api.auth import KeyStore

from tests.serving.conftest import Running


def give(running: Running, **fields: Any) -> Any:
    return running.http("POST", "/v1/feedback", json=fields)


def standing(running: Running, interaction: str) -> list[dict]:
    answer = running.http("GET", "/v1/feedback", params={"interaction_id": interaction})
    assert answer.status_code == 200
    return answer.json()["data"]


def test_a_thumb_is_accepted_and_read_back(running: Running) -> None:
    interaction = running.say("Hi").id
    answer = give(running, interaction_id=interaction, name="thumbs", value=False, user="ann")
    assert answer.status_code == 202
    found = standing(running, interaction)
    assert [(f["id"], f["value"], f["user"]) for f in found] == [
        (answer.json()["id"], "down", "ann")
    ]


def test_the_event_is_durable_in_the_spool(running: Running) -> None:
    interaction = running.say("Hi").id
    sent = give(running, interaction_id=interaction, name="correction", value="Better.")
    event = decode(running.service.spool.take(10)[-1].record)
    assert isinstance(event, FeedbackEvent)
    assert (event.id, event.tenant, event.value) == (sent.json()["id"], "local", "Better.")


def test_the_same_id_again_changes_nothing(running: Running) -> None:
    interaction = running.say("Hi").id
    judged = {"id": "f1", "interaction_id": interaction, "name": "thumbs", "value": "up"}
    assert give(running, **judged).json()["status"] == "stored"
    assert give(running, **judged).json()["status"] == "unchanged"
    assert len(standing(running, interaction)) == 1


def test_the_last_word_of_a_user_wins(running: Running) -> None:
    interaction = running.say("Hi").id
    for value in ("up", "down"):
        give(running, interaction_id=interaction, name="thumbs", value=value, user="ann")
    give(running, interaction_id=interaction, name="thumbs", value="up", user="bob")
    assert sorted(f["value"] for f in standing(running, interaction)) == ["down", "up"]


def test_a_batch_is_accepted_whole_or_not_at_all(running: Running) -> None:
    interaction = running.say("Hi").id
    good = {"interaction_id": interaction, "name": "score", "value": 0.5}
    bad = {"interaction_id": interaction, "name": "score", "value": 5}
    answer = running.http("POST", "/v1/feedback", json=[good, {"session_id": "s", **THUMB}])
    assert answer.status_code == 202
    assert len(answer.json()["data"]) == 2
    refused = running.http("POST", "/v1/feedback", json=[good, bad])
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "[1].value"
    assert len(standing(running, interaction)) == 1


THUMB = {"name": "thumbs", "value": "up"}


@pytest.mark.parametrize(
    ("fields", "param", "fix"),
    [
        ({"session_id": "s", "name": "thumbs", "value": "sideways"}, "value", '"up" or "down"'),
        ({"session_id": "s", "name": "score", "value": 2}, "value", "0 to 1"),
        ({"session_id": "s", "name": "signal", "value": "winked"}, "value", "copied"),
        ({"session_id": "s", "name": "stars", "value": 5}, "name", "thumbs, score"),
        ({"session_id": "s", "name": "thumbs"}, "value", "Missing"),
        ({"name": "thumbs", "value": "up"}, "interaction_id", "exactly one"),
        ({"session_id": "s", **THUMB, "valeu": 1}, "valeu", "Unknown"),
    ],
)
def test_what_is_wrong_is_named_with_its_fix(
    running: Running, fields: dict, param: str, fix: str
) -> None:
    answer = give(running, **fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert fix in error["message"]


def test_nobody_judges_what_was_given_to_others(running: Running) -> None:
    keys = KeyStore(running.service.settings.data_dir / "keys.sqlite")
    acme, other = (
        running.with_key(keys.create(t, ["chat", "feedback"])) for t in ("acme", "other")
    )
    interaction = acme.say("Hi").id
    denied = give(other, interaction_id=interaction, **THUMB)
    assert (denied.status_code, denied.json()["error"]["code"]) == (404, "interaction_not_found")
    assert give(acme, interaction_id="chatcmpl-made-up", **THUMB).status_code == 404
    given = give(acme, interaction_id=interaction, **THUMB).json()["id"]
    assert (
        other.http("GET", "/v1/feedback", params={"interaction_id": interaction}).status_code == 404
    )
    other.http("DELETE", f"/v1/feedback/{given}")
    path = {"interaction_id": interaction}
    assert len(acme.http("GET", "/v1/feedback", params=path).json()["data"]) == 1
    mine = other.http("DELETE", f"/v1/feedback/{given}", params=path)
    assert (mine.status_code, mine.json()["error"]["param"]) == (404, "interaction_id")
    assert acme.http("DELETE", f"/v1/feedback/{given}").status_code == 200


def test_a_retraction_is_an_event_and_a_new_vote_counts_again(running: Running) -> None:
    interaction = running.say("Hi").id
    given = give(running, interaction_id=interaction, **THUMB).json()["id"]
    for _ in range(2):
        answer = running.http("DELETE", f"/v1/feedback/{given}")
        assert (answer.status_code, answer.json()["deleted"]) == (200, True)
    assert standing(running, interaction) == []
    events = [decode(spooled.record) for spooled in running.service.spool.take(10)]
    assert given in [e.feedback_id for e in events if isinstance(e, RetractionEvent)]
    again = give(running, id=given, interaction_id=interaction, **THUMB)
    assert (again.status_code, again.json()["status"]) == (202, "stored")
    assert [one["id"] for one in standing(running, interaction)] == [given]


def test_what_another_server_accepted_is_taken_back_here(running: Running) -> None:
    interaction = running.say("Hi").id
    path = {"interaction_id": interaction}
    answer = running.http("DELETE", "/v1/feedback/given-elsewhere", params=path)
    assert (answer.status_code, answer.json()["deleted"]) == (202, True)
    event = decode(running.service.spool.take(10)[-1].record)
    assert isinstance(event, RetractionEvent)
    assert (event.feedback_id, event.tenant, event.key) == (
        "given-elsewhere", "local", interaction,
    )  # fmt: skip
    assert running.http("DELETE", f"/v1/feedback/{'x' * 201}").status_code == 400


def test_a_vote_is_told_its_fate(running: Running) -> None:
    interaction = running.say("Hi").id
    given = give(running, interaction_id=interaction, **THUMB).json()["id"]

    def fate() -> tuple[str, str]:
        shown = running.http("GET", f"/v1/feedback/{given}").json()
        assert (shown["id"], shown["value"], shown["problem"]) == (given, "up", None)
        return shown["state"], shown["interaction_id"]

    assert fate() == ("stands", interaction)
    give(running, interaction_id=interaction, name="thumbs", value="down")
    assert fate() == ("superseded", interaction)
    running.http("DELETE", f"/v1/feedback/{given}")
    assert fate() == ("retracted", interaction)
    unknown = running.http("GET", "/v1/feedback/never-given")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "id")


def test_a_full_spool_says_come_back_later(running: Running) -> None:
    interaction = running.say("Hi").id
    running.service.spool.max_bytes = 1
    answer = give(running, interaction_id=interaction, **THUMB)
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


def test_sessions_are_judged_too(running: Running) -> None:
    assert give(running, session_id="s1", name="comment", value="Nice.").status_code == 202
    answer = running.http("GET", "/v1/feedback", params={"session_id": "s1"})
    assert answer.json()["data"][0]["value"] == "Nice."
    assert running.http("GET", "/v1/feedback").status_code == 400


def test_a_choice_that_was_not_given_cannot_be_judged(running: Running) -> None:
    two = running.say("Hi", n=2).id
    assert give(running, interaction_id=two, choice=1, **THUMB).status_code == 202
    for interaction, choice in ((two, 2), (running.say("Hi").id, 5)):
        answer = give(running, interaction_id=interaction, choice=choice, **THUMB)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "choice")


def test_a_preference_is_a_pair(running: Running) -> None:
    better, worse = running.say("Hi").id, running.say("Hi").id
    pair = [
        {"interaction_id": better, "over": worse, "name": "preference", "value": "better"},
        {"interaction_id": worse, "over": better, "name": "preference", "value": "worse"},
    ]
    assert running.http("POST", "/v1/feedback", json=pair).status_code == 202
    (found,) = standing(running, better)
    assert (found["value"], found["metadata"]) == ("better", {"over": worse})
    assert [one["value"] for one in standing(running, worse)] == ["worse"]


@pytest.mark.parametrize(
    ("fields", "param", "status"),
    [
        ({"name": "preference", "value": "better"}, "over", 400),
        ({"name": "preference", "value": "nicer", "over": "other"}, "value", 400),
        ({"name": "preference", "value": "better", "over": "chatcmpl-made-up"}, "over", 404),
        ({"name": "thumbs", "value": "up", "over": "other"}, "over", 400),
    ],
)
def test_half_a_pair_is_refused(
    running: Running, fields: dict[str, Any], param: str, status: int
) -> None:
    first, other = running.say("Hi").id, running.say("Hi").id
    over = {"over": other} if fields.get("over") == "other" else {}
    refused = give(running, interaction_id=first, **{**fields, **over})
    assert refused.status_code == status, refused.text
    assert refused.json()["error"]["param"] == param
