"""Small commands, without a service."""

import os
from pathlib import Path

import pytest
from burnish.feedback.ids import check_interaction_id, id_keyring, new_interaction_id
from burnish.feedback.keyring import Keyring
from burnish.ops.cli import app
from burnish.ops.commands.client import ServiceError
from burnish.ops.settings import SettingsError, free_port
from burnish.serving.registry import ADAPTER_FILES, PolicyRegistry, signing_keys
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


def test_a_rotated_key_keeps_the_old_one_for_a_while(run):
    old = run("keys", "add", "acme", "--scope", "admin", "--days", "30").strip()
    new = run("keys", "rotate", "acme", "--hours", "1").strip()
    assert new != old
    listed = run("keys", "list").splitlines()
    assert [line.split()[1:3] for line in listed[1:]] == [["acme", "admin"]] * 2
    with pytest.raises(ServiceError, match="2 keys"):
        run("keys", "rotate", "acme")
    assert run("keys", "rotate", new[:10] + "...").startswith("bk-")


def test_the_last_key_revoked_says_that_the_server_is_closed(run):
    key = run("keys", "add", "acme").strip()
    assert "every request is refused" in run("keys", "revoke", key[:10])


def test_ids_given_out_before_a_rotation_stay_good(run, tmp_path: Path):
    ids = id_keyring(tmp_path)
    made = new_interaction_id(ids.read(), "acme")
    assert "30 days" in run("keys", "rotate-ids", "--days", "30")
    assert check_interaction_id(ids.read(), "acme", made)
    assert not check_interaction_id(Keyring(ids.read().current), "acme", made)


def test_a_version_is_signed_and_all_are_signed_anew(run, tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    registry = PolicyRegistry(uri, keys=signing_keys(tmp_path))
    registry.ensure_base("default", "model", "b" * 64)
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in ADAPTER_FILES:
        (folder / name).write_text("{}")
    made = registry.register("default", folder, parent=1, lineage={})
    assert "1 versions" in run("keys", "rotate-signing")
    assert registry.get("default", 2).signature not in (made.signature, None)
    assert str(made.sha256) in run("sign", "default@2")
    assert registry.fetch(registry.get("default", 2), tmp_path / "cache")
    with pytest.raises(ServiceError, match="99"):
        run("sign", "99")


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
    audit = {"audit-key", "audit.head", "audit.log"}  # the key that was added
    assert {path.name for path in tmp_path.iterdir()} == {"keys.sqlite", "lock", *audit}
