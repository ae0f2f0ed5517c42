"""/v1/policies/NAME/canary: begun, ramped, paused and withdrawn by whoever may, with a reason for the audit log."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from burnish.feedback.audit import AuditLog
from burnish.serving.api.auth import KeyStore
from burnish.serving.engine import StubEngine
from burnish.serving.registry import StubRegistry
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running

CANARY = "/v1/policies/default/canary"


@pytest.fixture
def running(serve: Callable[..., Running], settings: ServingSettings) -> Running:
    registry = StubRegistry()
    registry._audit = AuditLog(settings.data_dir)
    running = serve(settings, StubEngine("Hello there."), registry)
    registry.add()
    return running


def change(running: Running, **body):
    return running.http("POST", CANARY, json=body)


def test_where_none_runs_that_is_said(running: Running):
    told = running.http("GET", CANARY).json()
    assert (told["running"], told["last"]) == (None, None)
    assert told["says"] == "no version of 'default' is tried on a share of users"
    refused = change(running, action="pause")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "no_canary")


def test_a_person_leads_it_and_each_step_is_audited(running: Running):
    begun = change(running, action="begin", version=2, why="to try it").json()
    assert (begun["running"]["version"], begun["running"]["share"]) == (2, 0.05)
    assert "salt" not in begun["running"]
    assert change(running, action="ramp", share=0.25).json()["running"]["share"] == 0.25
    assert change(running, action="pause").json()["running"]["paused_by"] == "local"
    assert change(running, action="resume").json()["running"]["paused_by"] is None
    assert running.http("GET", "/v1/policies/default").json()["share"] == 0.25
    assert change(running, action="withdraw", why="not today").json()["running"] is None
    assert running.http("GET", "/v1/policies/default").json()["challenger"] is None
    log = running.http("GET", "/v1/audit", params={"limit": 5}).json()["data"]
    assert [(e["who"], e["what"], e["why"]) for e in reversed(log)] == [
        ("local", "canary begins", "to try it"),
        ("local", "canary ramped", ""),
        ("local", "canary paused", ""),
        ("local", "canary resumed", ""),
        ("local", "canary withdrawn", "not today"),
    ]


def test_a_challenger_that_is_promoted_by_hand_ends_it(running: Running):
    change(running, action="begin", version=2)
    running.http("POST", "/v1/policies/default/promote", json={"version": 2})
    assert running.http("GET", CANARY).json()["running"] is None
    again = change(running, action="begin", version=2)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "is_champion")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": "begin"}, "version goes with begin"),
        ({"action": "ramp"}, "ramp needs share"),
        ({"action": "pause", "share": 0.1}, "share goes with begin and ramp"),
        ({"action": "ramp", "share": 0.6}, "share"),
        ({"action": "ramp", "share": 0}, "share"),
        ({"action": "stop"}, "action"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(running: Running, body, field):
    refused = change(running, **body)
    assert refused.status_code == 400
    assert field in refused.text


def test_versions_and_policies_that_are_not_there_are_told(running: Running):
    assert change(running, action="begin", version=9).status_code == 404
    assert running.http("GET", "/v1/policies/shop/canary").status_code == 404


def test_reading_takes_a_key_and_changing_the_scope_admin(running: Running):
    key = KeyStore(running.service.settings.data_dir / "keys.sqlite").create("acme", ["chat"])
    theirs = running.with_key(key)
    assert theirs.http("GET", CANARY).status_code == 200
    assert change(theirs, action="withdraw").status_code == 403
