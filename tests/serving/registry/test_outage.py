"""A registry that cannot be reached is told from one that does not know a version."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from burnish.serving.registry import (
    PolicyRegistry,
    RegistryError,
    StubRegistry,
    UnknownVersion,
    signing_keys,
)

from tests.serving.conftest import closed_port


def test_a_server_that_is_away_is_a_registry_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(RegistryError) as caught:
        PolicyRegistry(uri, keys=signing_keys(tmp_path)).champion_version("default")
    assert not isinstance(caught.value, UnknownVersion)


def test_so_is_a_stub_that_is_not_available() -> None:
    registry = StubRegistry()
    registry.store.available = False
    for call in (
        lambda: registry.champion_version("default"),
        lambda: registry.get("default", 1),
        registry.policies,
    ):
        with pytest.raises(RegistryError) as caught:
            call()
        assert not isinstance(caught.value, UnknownVersion)


def test_importing_the_package_does_not_import_mlflow() -> None:
    code = "import sys, burnish.serving.registry; print('mlflow' in sys.modules)"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert asked.stdout.strip() == "False", asked.stderr
