"""The drill: a running service is backed up, wiped out and restored, and everything acknowledged is back."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from burnish.kernels.loading import load_model
from burnish.kernels.lora import (
    AdapterWeights,
    LoraSpec,
    default_targets,
    init_adapter,
    save_adapter,
)
from burnish.learner.database import Database
from burnish.learner.tables import InteractionRow, JudgementRow
from burnish.ops.backup import make, restore
from burnish.ops.commands.client import ServiceError
from burnish.ops.settings import UpSettings
from burnish.serving.registry import PolicyRegistry, signing_keys
from rich.console import Console
from sqlalchemy import select

from tests.service import MESSAGES, Service


class Client:
    """Chats, judges and remembers until told to stop; keeps what was acknowledged."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.judged: list[tuple[str, str]] = []  # interaction and feedback
        self.steps: list[str] = []

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            answer = self._service.client.chat.completions.create(
                model="default",
                messages=MESSAGES,  # type: ignore[arg-type]
                max_tokens=4,
                user="ada",
            )
            self.judged.append((answer.id, self._service.judge(answer.id, "up")))
            text = f"step {len(self.steps)}"
            steps = {"events": [{"role": "user", "content": text}]}
            path = f"{self._service.url}/v1/memory/sessions/days/events"
            if httpx.post(path, json=steps, timeout=30).status_code == 201:
                self.steps.append(text)


def register_second(service: Service, model: Path, scratch: Path) -> None:
    """A version with an adapter of its own, signed, and champion."""
    loaded = load_model(model)
    spec = LoraSpec(2, 4.0, default_targets(loaded.model))
    fresh = init_adapter(loaded.model, spec, 0)
    folder = save_adapter(AdapterWeights(spec, fresh.tensors), scratch / "adapter", "drill")
    registry = registry_of(service.data_dir)
    made = registry.register("default", folder, parent=1, lineage={})
    assert made.version == 2
    registry.promote("default", 2)


def registry_of(folder: Path) -> PolicyRegistry:
    uri = f"sqlite:///{folder}/mlflow/mlflow.db"
    return PolicyRegistry(uri, None, who="drill", keys=signing_keys(folder))


def told(folder: Path, column: Any) -> set[str]:
    database = Database(f"sqlite:///{folder}/experience.db")
    try:
        with database.read() as session:
            return set(session.scalars(select(column)))
    finally:
        database.close()


@pytest.fixture(scope="module")
def drill(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    scratch = tmp_path_factory.mktemp("drill")
    console = Console(file=StringIO(), width=200)
    service = Service(scratch / "data", tiny_model)
    settings = UpSettings(data_dir=service.data_dir)
    with service:
        register_second(service, tiny_model, scratch)
        with Client(service) as client:
            service.wait_until(lambda: len(client.judged) >= 20, 120, "no 20 judgements")
            judged, steps = list(client.judged), list(client.steps)
            make.run(settings, scratch / "backup", console)
            assert client._thread.is_alive()
    shutil.rmtree(service.data_dir)
    restore.run(settings, scratch / "backup", console)
    with service:
        service.wait_until(
            lambda: {f for _, f in judged} <= told(service.data_dir, JudgementRow.id),
            60,
            "judgements are missing",
        )
        yield {"service": service, "judged": judged, "steps": steps, "backup": scratch / "backup"}


def test_every_acknowledged_event_is_back(drill: dict[str, Any]):
    answers = {interaction for interaction, _ in drill["judged"]}
    assert answers <= told(drill["service"].data_dir, InteractionRow.id)
    for _, feedback in drill["judged"]:
        found = httpx.get(f"{drill['service'].url}/v1/feedback/{feedback}", timeout=10)
        assert found.status_code == 200, found.text


def test_every_step_of_the_session_is_back_in_its_order(drill: dict[str, Any]):
    path = f"{drill['service'].url}/v1/memory/sessions/days/events"
    found = httpx.get(path, params={"limit": 1000}, timeout=10).json()
    texts = [event["content"] for event in found["events"]]
    assert texts[: len(drill["steps"])] == drill["steps"]


def test_versions_and_their_signed_weights_are_back(drill: dict[str, Any]):
    answer = drill["service"].client.chat.completions.create(
        model="default",
        messages=MESSAGES,  # type: ignore[arg-type]
        max_tokens=4,
    )
    assert answer.system_fingerprint == "default@2"


def test_answers_given_before_can_still_be_judged(drill: dict[str, Any]):
    drill["service"].judge(drill["judged"][0][0], "down")


def test_nothing_that_is_there_is_overwritten(drill: dict[str, Any]):
    console = Console(file=StringIO())
    with pytest.raises(ServiceError, match="a service runs"):
        restore.run(UpSettings(data_dir=drill["service"].data_dir), drill["backup"], console)
    with pytest.raises(ServiceError, match="exists already"):
        make.run(UpSettings(data_dir=drill["service"].data_dir), drill["backup"], console)


def test_a_backup_that_was_changed_is_refused(drill: dict[str, Any], tmp_path: Path):
    copy = tmp_path / "backup"
    shutil.copytree(drill["backup"], copy)
    with (copy / "redis.sqlite").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ServiceError, match=r"redis\.sqlite was changed"):
        restore.run(UpSettings(data_dir=tmp_path / "data"), copy, Console(file=StringIO()))
    assert not (tmp_path / "data").exists()
