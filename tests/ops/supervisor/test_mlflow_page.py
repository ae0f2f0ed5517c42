"""MLflow's page lets in one user; the page itself is the real one, in the process that `up` starts."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest
from burnish.ops.passwords import mlflow_password, mlflow_password_file
from burnish.serving.registry import PolicyRegistry, signing_keys

from tests.conftest import free_port
from tests.waiting import eventually

# The page, the REST interface (two spellings), artifacts, GraphQL, what is not Flask's but FastAPI's.
DOORS = [
    ("GET", "/"),
    ("GET", "/version"),
    ("GET", "/static-files/index.html"),
    ("GET", "/api/2.0/mlflow/registered-models/search"),
    ("GET", "/ajax-api/2.0/mlflow/registered-models/search"),
    ("POST", "/api/2.0/mlflow/registered-models/alias"),
    ("POST", "/ajax-api/2.0/mlflow/upload-artifact"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts?path="),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/a/artifacts/evil"),
    ("GET", "/get-artifact?path=a&run_uuid=b"),
    ("POST", "/graphql"),
    ("POST", "/v1/traces"),
    ("GET", "/gateway/anything"),
    ("GET", "/ajax-api/3.0/jobs/any"),
    ("GET", "//api/2.0/mlflow/registered-models/search"),
    ("GET", "/health/../version"),
    ("GET", "/health/"),
]


@dataclass(frozen=True)
class Page:
    url: str
    password: str
    log: Path

    def ask(self, method: str, path: str, **headers: str) -> httpx.Response:
        auth = httpx.BasicAuth("burnish", self.password)
        return httpx.request(method, self.url + path, headers=headers, auth=auth, timeout=60)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    data, port = tmp_path_factory.mktemp("page"), free_port()
    uri, artifacts = f"sqlite:///{data}/mlflow/mlflow.db", str(data / "mlflow" / "artifacts")
    registry = PolicyRegistry(uri, keys=signing_keys(data))
    registry.ensure_base("default", "model", "b" * 64)
    argv = [sys.executable, "-m", "burnish.ops.supervisor.mlflow_page", "--port", str(port)]
    argv += ["--artifacts", artifacts, "--artifact-root", artifacts]
    env = {**os.environ, "BURNISH_DATA_DIR": str(data), "BURNISH_MLFLOW_URI": uri}
    log = data / "log"
    with log.open("w") as out:
        process = subprocess.Popen(argv, env=env, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    eventually(ready, 240)
    yield Page(url, mlflow_password(data), log)
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def test_without_the_password_every_door_is_closed(page: Page) -> None:
    for auth in (
        None,
        httpx.BasicAuth("burnish", "guess"),
        httpx.BasicAuth("admin", page.password),
    ):
        for method, path in DOORS:
            answer = httpx.request(method, page.url + path, auth=auth, timeout=60)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Basic ")
            assert "default" not in answer.text


def test_with_it_the_page_and_its_registry_are_there(page: Page) -> None:
    assert "<html" in page.ask("GET", "/").text.lower()
    found = page.ask("GET", "/api/2.0/mlflow/registered-models/search").json()
    assert [model["name"] for model in found["registered_models"]] == ["default"]


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:1", "null"])
def test_another_pages_script_cannot_use_the_users_login(page: Page, origin: str) -> None:
    for method, path in DOORS:
        assert page.ask(method, path, origin=origin).status_code == 403, (method, path)
    own = page.ask("GET", "/api/2.0/mlflow/registered-models/search", origin=page.url)
    assert own.status_code == 200


def test_a_name_that_a_foreign_page_rebinds_to_it_is_refused(page: Page) -> None:
    assert page.ask("GET", "/", host="evil.example").status_code == 403


def test_the_password_is_in_no_log_and_private(page: Page) -> None:
    file = mlflow_password_file(page.log.parent)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert page.password not in page.log.read_text()
