"""Small commands, without a service."""

import os
from pathlib import Path

import pytest
from burnish.ops.cli import app
from burnish.ops.commands.client import ServiceError
from burnish.ops.settings import SettingsError, free_port
from typer.testing import CliRunner


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith("BURNISH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())

    def invoke(*args: str):
        result = CliRunner().invoke(app, [*args, "--data-dir", str(tmp_path)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    return invoke


def test_a_key_is_shown_once_listed_by_its_beginning_and_revoked(run):
    key = run("keys", "add", "acme").strip()
    listed = run("keys", "list")
    assert key not in listed
    assert "acme" in listed
    shown = next(word for word in listed.split() if word.endswith("..."))
    assert key.startswith(shown.removesuffix("..."))
    run("keys", "revoke", shown)
    assert "acme" not in run("keys", "list")


def test_an_unknown_scope_is_refused(run):
    with pytest.raises(SettingsError, match="fly"):
        run("keys", "add", "acme", "--scope", "fly")


def test_without_a_service_a_command_says_how_to_start_one(run):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceError, match=f"no service answers at {url}.*burnish up"):
        run("update", "--url", url)


def test_without_a_registry_nothing_can_be_promoted(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BURNISH_PORT", str(free_port()))
    with pytest.raises(ServiceError, match="no registry"):
        run("promote", "2")


def test_a_version_is_a_number_or_a_reference(run):
    with pytest.raises(SettingsError, match="newest"):
        run("promote", "newest")


def test_a_repair_of_a_whole_folder_changes_nothing_and_exits_with_0(run, tmp_path: Path):
    run("keys", "add", "acme")
    assert run("repair") == "keys.sqlite: whole\nthe service can start\n"
    assert {path.name for path in tmp_path.iterdir()} == {"keys.sqlite", "lock"}
