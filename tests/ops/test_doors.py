"""A stranger on the machine reads nothing of a running service, and changes nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from burnish.ops.bench.lib.stranger import Attempt, try_doors
from burnish.ops.supervisor.services import http_ok
from burnish.serving.api.keys import KeyStore

from tests.conftest import missing
from tests.service import Service


@pytest.fixture(scope="module")
def service(tiny_model: Path) -> Iterator[Service]:
    from burnish.ops.kafka.node import KafkaMissing, fetch

    try:
        fetch()
    except KafkaMissing as error:
        missing(str(error))
    # Not below pytest's folder, which is closed to others whatever lies in it.
    public = Path(tempfile.mkdtemp(prefix="burnish-doors-"))
    public.chmod(0o755)
    data_dir = public / "data"
    data_dir.mkdir(mode=0o755)  # as releases before this one left it
    (data_dir / "spool.db").touch(mode=0o644)
    with Service(data_dir, tiny_model, "--kafka") as running:
        up = lambda: "mlflow" in running.children() and http_ok(mlflow_url(running) + "/health")  # noqa: E731
        running.wait_until(up, 300, "MLflow's page did not come")
        yield running
    shutil.rmtree(public)


def mlflow_url(service: Service) -> str:
    from burnish.ops.supervisor import run_state

    state = run_state.read(service.data_dir)
    assert state is not None
    assert state.mlflow_url is not None
    return state.mlflow_url


@pytest.fixture(scope="module")
def found(service: Service) -> list[Attempt]:
    return try_doors(service.data_dir)


def opened(found: list[Attempt], what: str) -> list[Attempt]:
    tried = [one for one in found if one.what == what]
    assert tried, f"nothing of {what} was tried"
    return [one for one in tried if one.opened]


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
DOORS = ["files", "processes", "mlflow", "redis", "kafka", pytest.param("api", marks=as_root)]


@pytest.mark.parametrize("what", DOORS)
def test_a_door_is_closed(found: list[Attempt], what: str) -> None:
    assert opened(found, what) == []


def test_no_command_line_tells_a_secret(service: Service, found: list[Attempt]) -> None:
    secrets = [path.read_text().strip() for path in service.data_dir.rglob("password")]
    secrets += [(service.data_dir / name).read_text() for name in ("secret", "signing-key")]
    assert len(secrets) == 5
    commands = " ".join(one.said for one in found if one.door.endswith("cmdline"))
    assert "burnish.serving" in commands
    assert not [secret for secret in secrets if secret in commands]


def test_another_pages_script_is_refused(found: list[Attempt]) -> None:
    assert opened(found, "origin") == []


def test_with_a_key_the_api_is_closed(service: Service) -> None:
    KeyStore(service.data_dir / "keys.sqlite").create("acme")
    found = try_doors(service.data_dir)
    assert opened(found, "api") == []
    assert opened(found, "origin") == []
