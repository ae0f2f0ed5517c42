"""Policies live: swaps under load, pins, outages, and adapters that must not be served."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import openai
import pytest
from burnish.serving.engine import Request, StubEngine
from burnish.serving.registry import StubRegistry
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually


def adapter_name(request: Request) -> str:
    return f"I am {request.adapter or 'the base'}. " * 8


@pytest.fixture
def registry() -> StubRegistry:
    return StubRegistry()


@pytest.fixture
def live(
    serve: Callable[..., Running], settings: ServingSettings, registry: StubRegistry
) -> Running:
    return serve(settings, StubEngine(adapter_name, pace_s=0.001), registry)


def champion(running: Running) -> int:
    return running.http("GET", "/v1/policies").json()["data"][0]["champion"]


def test_a_promotion_is_served_when_the_call_returns(live: Running, registry: StubRegistry) -> None:
    version = registry.add()
    answer = live.http("POST", "/v1/policies/default/promote", json={"version": version})
    assert answer.json()["champion"] == version
    said = live.say("Hi")
    assert said.system_fingerprint == "default@2"
    assert said.choices[0].message.content.startswith("I am default@2.")
    back = live.http("POST", "/v1/policies/default/rollback").json()
    assert (back["champion"], back["previous"]) == (1, 2)
    assert live.say("Hi").system_fingerprint == "default@1"


def test_an_alias_moved_elsewhere_is_followed(live: Running, registry: StubRegistry) -> None:
    registry.store.set_alias("default", "champion", registry.add())
    eventually(lambda: champion(live) == 2)
    assert live.say("Hi").system_fingerprint == "default@2"


def test_swaps_under_load_fail_nothing_and_mix_nothing(
    live: Running, registry: StubRegistry
) -> None:
    stop, failures, served = threading.Event(), [], []

    def talk() -> None:
        client = live.openai
        while not stop.is_set():
            try:
                stream = client.chat.completions.create(
                    model="default", messages=[{"role": "user", "content": "Hi"}], stream=True
                )
                text, ref = "", ""
                for chunk in stream:
                    text += chunk.choices[0].delta.content or ""
                    ref = chunk.system_fingerprint or ""
                name = "the base" if ref == "default@1" else ref
                if text != f"I am {name}. " * 8:
                    failures.append((ref, text))
                served.append(ref)
            except openai.OpenAIError as error:
                failures.append(error)

    talkers = [threading.Thread(target=talk) for _ in range(8)]
    for talker in talkers:
        talker.start()
    for _ in range(20):
        registry.promote("default", registry.add())
        eventually(lambda: champion(live) == registry.champion_version("default"))
        answered = len(served)
        eventually(lambda answered=answered: len(served) > answered)
    stop.set()
    for talker in talkers:
        talker.join(20)
    assert failures == []
    assert len(set(served)) > 3
    for event in live.recorded():
        name = "the base" if event.version == 1 else f"default@{event.version}"
        assert event.completions[0].text == f"I am {name}. " * 8
    kept = {"default@20", "default@21"}
    eventually(lambda: set(live.engine.adapters) == kept)
    cache = live.service.settings.data_dir / "adapters"
    eventually(lambda: {folder.name for folder in cache.glob("*@*")} == kept)


def test_a_running_answer_keeps_its_version(
    serve: Callable[..., Running], settings: ServingSettings, registry: StubRegistry
) -> None:
    running = serve(settings, StubEngine(adapter_name, pace_s=0.02), registry)
    registry.promote("default", registry.add())
    eventually(lambda: champion(running) == 2)
    stream = running.say("Hi", stream=True)
    next(stream)
    for _ in range(3):
        registry.promote("default", registry.add())
        eventually(lambda: champion(running) == registry.champion_version("default"))
    assert "default@2" in running.engine.adapters
    assert "default@3" not in running.engine.adapters
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == "I am default@2. " * 8
    eventually(lambda: set(running.engine.adapters) == {"default@4", "default@5"})


def test_pinned_versions_are_loaded_on_demand_and_the_least_recent_go(
    serve: Callable[..., Running], settings: ServingSettings, registry: StubRegistry
) -> None:
    few = settings.model_copy(update={"pinned_versions": 2})
    running = serve(few, StubEngine(adapter_name), registry)
    for _ in range(4):
        registry.add()
    assert running.say("Hi", model="default@3").system_fingerprint == "default@3"
    for version in (2, 3, 4):
        running.say("Hi", model=f"default@{version}")
    eventually(lambda: set(running.engine.adapters) == {"default@3", "default@4"})
    assert (
        running.say("Hi", model="default@1").choices[0].message.content.startswith("I am the base")
    )


def problem_of(running: Running) -> str:
    return running.http("GET", "/v1/policies").json()["data"][0]["problem"] or ""


@pytest.mark.parametrize("fault", ["tampered", "broken", "another base", "not signed"])
def test_an_adapter_that_cannot_be_trusted_leaves_the_old_one_serving(
    live: Running, registry: StubRegistry, fault: str
) -> None:
    version = registry.add(weights=b"" if fault == "broken" else b"fine")
    stored = registry.store.version("default", version)
    if fault == "tampered":
        stored.files["adapter_model.safetensors"] = b"evil"
    elif fault == "another base":
        stored.tags["base_sha256"] = "another"
    elif fault == "not signed":
        del stored.tags["signature"]
    registry.promote("default", version)
    eventually(lambda: "version 2 is champion but cannot be served" in problem_of(live))
    assert live.say("Hi").system_fingerprint == "default@1"
    ready = live.http("GET", "/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert any("version 2" in problem for problem in ready.json()["problems"])
    with pytest.raises(openai.InternalServerError):
        live.say("Hi", model="default@2")
    registry.rollback("default")
    eventually(lambda: problem_of(live) == "")


def test_what_somebody_else_uploaded_is_not_served_until_a_person_signs_it(
    live: Running, registry: StubRegistry, make_adapter: Callable[..., Path]
) -> None:
    """Whoever can write to MLflow uploads an adapter and moves the alias."""
    tags = {"base_sha256": live.engine.model_sha256}
    brought = registry.store.create_version("default", {}, make_adapter("mine"), tags, {})
    registry.store.set_tag("default", "burnish.move.1-evil", "no move")
    registry.store.set_alias("default", "champion", brought)
    registry.sign("default", brought)
    eventually(lambda: champion(live) == brought)

    unsigned = registry.add()
    del registry.store.version("default", unsigned).tags["signature"]
    registry.store.set_alias("default", "champion", unsigned)
    eventually(lambda: f"burnish sign default@{unsigned}" in problem_of(live))
    assert champion(live) == brought
    assert live.say("Hi").system_fingerprint == f"default@{brought}"


def test_a_registry_outage_changes_nothing_for_clients(
    live: Running, registry: StubRegistry
) -> None:
    registry.store.available = False
    eventually(lambda: "not available" in problem_of(live))
    assert live.say("Hi").system_fingerprint == "default@1"
    assert live.http("GET", "/readyz").status_code == 200
    moved = live.http("POST", "/v1/policies/default/promote", json={"version": 1})
    assert (moved.status_code, moved.json()["error"]["code"]) == (503, "registry_unavailable")
    registry.store.available = True
    eventually(lambda: problem_of(live) == "")


def test_a_damaged_copy_is_not_taken_up_at_a_start(
    serve: Callable[..., Running], settings: ServingSettings, registry: StubRegistry
) -> None:
    first = serve(settings, StubEngine(adapter_name), registry)
    registry.promote("default", registry.add())
    eventually(lambda: champion(first) == 2)
    first.stop()
    copy = settings.data_dir / "adapters" / "default@2" / "adapter_model.safetensors"
    copy.write_bytes(b"changed on disk")
    registry.store.available = False
    second = serve(settings, StubEngine(adapter_name), registry)
    assert champion(second) is None
    registry.store.available = True
    eventually(lambda: champion(second) == 2)


def test_a_start_without_the_registry_serves_what_was_served(
    serve: Callable[..., Running], settings: ServingSettings, registry: StubRegistry
) -> None:
    first = serve(settings, StubEngine(adapter_name), registry)
    registry.promote("default", registry.add())
    eventually(lambda: champion(first) == 2)
    first.stop()
    registry.store.available = False
    second = serve(settings, StubEngine(adapter_name), registry)
    assert second.say("Hi").system_fingerprint == "default@2"


def test_a_first_start_without_the_registry_is_not_ready(
    serve: Callable[..., Running], settings: ServingSettings, registry: StubRegistry
) -> None:
    registry.store.available = False
    running = serve(settings, StubEngine(adapter_name), registry)
    assert running.http("GET", "/readyz").status_code == 503
    with pytest.raises(openai.InternalServerError):
        running.say("Hi")
    registry.store.available = True
    eventually(lambda: running.http("GET", "/readyz").status_code == 200)


def test_versions_are_shown_with_lineage_and_history(live: Running, registry: StubRegistry) -> None:
    registry.promote("default", registry.add(), who="ann")
    shown = live.http("GET", "/v1/policies/default").json()
    assert [version["version"] for version in shown["versions"]] == [1, 2]
    assert shown["history"][-1]["who"] == "ann"
    one = live.http("GET", "/v1/policies/default/versions/2").json()
    assert (one["ref"], one["parent"], "lineage" in one) == ("default@2", 1, True)
    assert live.http("GET", "/v1/policies/default/versions/9").status_code == 404
    assert live.http("GET", "/v1/policies/nobody").status_code == 404
    assert live.http("POST", "/v1/policies/default/promote", json={"version": 9}).status_code == 404


def test_nothing_to_roll_back_to(live: Running) -> None:
    answer = live.http("POST", "/v1/policies/default/rollback")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "nothing_to_roll_back")


def policy(running: Running) -> dict:
    return running.http("GET", "/v1/policies").json()["data"][0]


def promote(running: Running, version: int) -> dict:
    return running.http("POST", "/v1/policies/default/promote", json={"version": version}).json()


@pytest.mark.parametrize("what", ["alias", "version", "model"])
def test_a_champion_that_the_registry_lost_is_told_and_serves_on(
    live: Running, registry: StubRegistry, what: str
) -> None:
    promote(live, registry.add())
    model = registry.store._models["default"]
    if what != "model":
        model.aliases.pop("champion")
    if what == "version":
        model.versions.pop()
    if what == "model":
        registry.store._models["renamed"] = registry.store._models.pop("default")
    eventually(lambda: policy(live)["problem"] is not None)
    lost = "no such model" if what == "model" else "no champion"
    assert lost in policy(live)["problem"]
    assert "To mend it" in policy(live)["problem"]
    assert policy(live)["champion"] == 2
    assert live.say("Hi").system_fingerprint == "default@2"
    ready = live.http("GET", "/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert any(lost in problem for problem in ready.json()["problems"])
    mended = promote(live, 1)
    assert (mended["champion"], mended["problem"]) == (1, None)


def test_a_start_does_not_make_a_lost_model_anew(
    serve: Callable[..., Running], settings: ServingSettings, registry: StubRegistry
) -> None:
    first = serve(settings, StubEngine(adapter_name), registry)
    promote(first, registry.add())
    first.stop()
    registry.store._models["renamed"] = registry.store._models.pop("default")
    second = serve(settings, StubEngine(adapter_name), registry)
    eventually(lambda: policy(second)["problem"] is not None)
    assert second.say("Hi").system_fingerprint == "default@2"
    registry.store._models["default"] = registry.store._models.pop("renamed")
    eventually(lambda: policy(second)["problem"] is None)


def test_a_rollback_returns_to_what_really_served(live: Running, registry: StubRegistry) -> None:
    good = registry.add(b"good")
    promote(live, good)
    for _ in range(2):
        broken = registry.add(b"broken")
        files = registry.store.version("default", broken).files
        files["adapter_model.safetensors"] = b"damaged"
        registry.promote("default", broken)
    eventually(lambda: policy(live)["problem"] is not None)
    back = live.http("POST", "/v1/policies/default/rollback").json()
    assert (back["champion"], back["problem"]) == (good, None)
    assert registry.champion_version("default") == good
    assert live.http("POST", "/v1/policies/default/rollback").json()["champion"] == 1
    assert live.http("POST", "/v1/policies/default/rollback").json()["champion"] == good


def test_a_rollback_after_a_restart_and_a_lost_alias(
    serve: Callable[..., Running], settings: ServingSettings, registry: StubRegistry
) -> None:
    first = serve(settings, StubEngine(adapter_name), registry)
    older, newer = registry.add(b"a"), registry.add(b"b")
    for version in (older, newer):
        promote(first, version)
    first.stop()
    second = serve(settings, StubEngine(adapter_name), registry)
    registry.store.drop_alias("default", "previous")
    assert policy(second)["previous"] == older
    assert second.http("POST", "/v1/policies/default/rollback").json()["champion"] == older
    registry.store.drop_alias("default", "champion")
    eventually(lambda: policy(second)["problem"] is not None)
    assert second.http("POST", "/v1/policies/default/rollback").json()["champion"] == older


def test_a_version_whose_files_break_the_engine_is_not_served_and_stops_nothing(
    live: Running, registry: StubRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("r")

    with monkeypatch.context() as patch:
        patch.setattr(live.engine, "load_adapter", broken)
        registry.promote("default", registry.add())
        eventually(lambda: "KeyError" in live.http("GET", "/readyz").text)
        with pytest.raises(openai.InternalServerError) as caught:
            live.say("Hi", model="default@2")
        assert caught.value.code == "model_unavailable"
    assert live.say("Hi").system_fingerprint == "default@1"
    registry.promote("default", registry.add())
    eventually(lambda: champion(live) == 3)
