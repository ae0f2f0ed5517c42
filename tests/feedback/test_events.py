"""The vocabulary keeps its word: spelling, schemas, and events written long ago."""

import json
from pathlib import Path

import pytest
from burnish.feedback.errors import UnknownEvent
from burnish.feedback.events import EVENTS, FeedbackEvent, RetractionEvent, decode, encode
from burnish.feedback.schema import published_schema, schema_of
from burnish.feedback.stream.record import StreamRecord
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from tests.feedback.conftest import interaction, thumbs

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("up", "up"), (True, "up"), (1, "up"), (1.0, "up"), ("Accept", "up"),
        ("down", "down"), (False, "down"), (-1, "down"), (0, "down"), ("reject", "down"),
    ],
)  # fmt: skip
def test_thumbs_have_one_spelling(given, kept: str) -> None:
    assert thumbs(given).value == kept


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("thumbs", "sideways"), ("thumbs", 0.5), ("thumbs", float("nan")), ("thumbs", None),
        ("thumbs", ["up"]), ("score", 1.5), ("score", -0.1), ("score", float("nan")),
        ("score", True), ("score", "0.5"), ("comment", " "), ("comment", 3), ("correction", ""),
        ("signal", "liked"), ("signal", 1), ("stars", 5), (None, "up"), ([], "up"),
    ],
)  # fmt: skip
def test_values_that_mean_nothing_are_refused(name, value) -> None:
    with pytest.raises(ValidationError):
        thumbs(value, name=name)


def test_a_judgement_has_exactly_one_target() -> None:
    assert thumbs(interaction_id=None, session_id="s1").key == "s1"
    for targets in ({"interaction_id": None}, {"session_id": "s1"}):
        with pytest.raises(ValidationError):
            thumbs(**targets)


def test_event_ids_are_unique_across_tenants_and_revisions() -> None:
    first = thumbs()
    others = [thumbs(tenant="other"), first.model_copy(update={"revision": 1}), interaction("f1")]
    assert len({first.event_id, *(event.event_id for event in others)}) == 4


@pytest.mark.parametrize(
    "event",
    [
        interaction(user="ann", messages=[{"role": "user", "content": "hé\u2028"}]),
        thumbs(rationale="too long", metadata={"page": 3}),
        thumbs(0.25, name="score"),
        RetractionEvent(id="r1", tenant="acme", feedback_id="f1", interaction_id="i1"),
    ],
)
def test_an_event_survives_its_journey(event) -> None:
    record = encode(event)
    assert decode(record) == event
    assert record.headers["ce_specversion"] == "1.0"
    assert record.headers["ce_id"] == record.event_id == event.event_id
    assert record.headers["ce_type"] == event.type
    assert record.headers["ce_source"] == "burnish"
    assert record.headers["ce_partitionkey"] == record.key == event.key
    assert record.headers["ce_time"]
    assert record.headers["content-type"] == "application/json"


@pytest.mark.parametrize("event_type", EVENTS)
def test_published_schemas_are_those_of_the_models(event_type: str) -> None:
    Draft202012Validator.check_schema(published_schema(event_type))
    assert published_schema(event_type) == schema_of(event_type), (
        "run python -m burnish.feedback.schema"
    )


def test_what_we_write_fits_the_published_schemas() -> None:
    retraction = RetractionEvent(id="r1", tenant="acme", feedback_id="f1")
    for event in (interaction(), thumbs(), thumbs(0.5, name="score"), retraction):
        Draft202012Validator(published_schema(event.type)).validate(json.loads(encode(event).value))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_events_of_long_ago_still_parse(path: Path) -> None:
    """Files are added here, never changed: an event that was valid once is valid for good."""
    golden = json.loads(path.read_text())
    body = json.dumps(golden["body"]).encode()
    event = decode(StreamRecord("any", golden["key"], body, golden["headers"]))
    Draft202012Validator(published_schema(event.type)).validate(golden["body"])
    kept = event.model_dump(mode="json")
    assert {name: kept[name] for name in golden["means"]} == golden["means"]


def test_there_is_a_golden_event_of_every_type() -> None:
    types = {json.loads(path.read_text())["headers"]["ce_type"] for path in GOLDEN}
    assert types == set(EVENTS)


def test_a_newer_writers_fields_are_passed_over() -> None:
    record = encode(thumbs())
    body = {**json.loads(record.value), "mood": "grim"}
    newer = StreamRecord(record.topic, record.key, json.dumps(body).encode(), record.headers)
    assert decode(newer) == decode(record)


@pytest.mark.parametrize(
    ("headers", "value", "says"),
    [
        ({}, b"{}", "CloudEvent"),
        ({"ce_type": "burnish.mood.v1"}, b"{}", "burnish.mood.v1"),
        ({"ce_time": "yesterday"}, b"{}", "CloudEvent"),
        ({"ce_specversion": "9.9"}, b"{}", "."),
        ({}, b"\xff\xfe", "."),
        ({"ce_type": "burnish.feedback.v1"}, b"not json", "body"),
        ({"ce_type": "burnish.feedback.v1"}, b"{}", "id"),
        ({"ce_type": "burnish.feedback.v1"}, b"[]", "burnish.feedback.v1"),
    ],
)
def test_a_record_that_is_no_event_says_why(headers, value: bytes, says: str) -> None:
    whole = {"ce_id": "1", "ce_source": "s", "ce_specversion": "1.0", "ce_type": "burnish.none"}
    with pytest.raises(UnknownEvent, match=says):
        decode(StreamRecord("t", "k", value, {**whole, **headers} if headers else {}))


def test_log_probabilities_are_numbers() -> None:
    broken = interaction().model_dump()
    broken["completions"][0]["logprobs"] = [float("-inf")]
    with pytest.raises(ValidationError):
        type(interaction()).model_validate(broken)


def test_time_is_never_without_a_zone() -> None:
    with pytest.raises(ValidationError):
        FeedbackEvent.model_validate({**thumbs().model_dump(), "time": "2026-01-01T00:00:00"})
