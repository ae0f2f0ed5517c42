"""API keys at rest: hashed, expiring, rotated, revoked; and seen by a running server in time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from burnish.serving.api import keys as module
from burnish.serving.api.keys import KeyStore, KeysUnreadable
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.sqlite"


def test_a_key_is_stored_as_a_hash_and_found_by_itself_only(path: Path) -> None:
    keys = KeyStore(path)
    assert not keys
    assert not keys.in_use
    key = keys.create("acme", ["chat", "feedback"])
    assert keys
    assert keys.in_use
    found = keys.check(key)
    assert found is not None
    assert (found.tenant, found.scopes) == ("acme", ("chat", "feedback"))
    assert keys.check(key + "x") is None
    assert key.encode() not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_keys_are_listed_by_prefix_and_revoked(path: Path) -> None:
    keys = KeyStore(path)
    key = keys.create("acme")
    assert [info.prefix for info in keys.list()] == [key[:10]]
    assert keys.revoke(key[:10])
    assert not keys.revoke(key[:10])
    assert keys.check(key) is None


@pytest.mark.parametrize(
    ("tenant", "scopes"), [("", ["chat"]), ("a:b", ["chat"]), ("a", ["root"]), ("a", [])]
)
def test_bad_tenants_and_scopes_are_refused(path: Path, tenant: str, scopes: list[str]) -> None:
    with pytest.raises(ValueError):
        KeyStore(path).create(tenant, scopes)
    assert not path.exists()  # a refused key does not close an open server


def test_a_key_is_good_until_it_expires(path: Path) -> None:
    clock = Clock()
    keys = KeyStore(path, clock)
    key = keys.create("acme", lasts_s=60)
    assert keys.check(key)
    clock.now += 61
    assert keys.check(key) is None
    assert not keys
    assert keys.in_use


def test_a_rotated_key_and_its_heir_are_both_good_for_a_while(path: Path) -> None:
    clock = Clock()
    keys = KeyStore(path, clock)
    old = keys.create("acme", ["chat", "admin"])
    keys.create("other")
    new = keys.rotate("acme", keep_s=60)
    heir = keys.check(new)
    assert heir is not None
    assert (heir.tenant, heir.scopes, heir.expires_at) == ("acme", ("chat", "admin"), None)
    assert keys.check(old)
    clock.now += 61
    assert keys.check(old) is None
    newest = keys.rotate(new[:10], keep_s=0)
    assert keys.check(new) is None
    assert keys.check(newest)


def test_what_rotates_is_one_valid_key(path: Path) -> None:
    keys = KeyStore(path)
    first, second = keys.create("acme"), keys.create("acme")
    with pytest.raises(LookupError, match=f"{first[:10]}, {second[:10]}"):
        keys.rotate("acme", keep_s=60)
    with pytest.raises(LookupError, match="nobody"):
        keys.rotate("nobody", keep_s=60)
    keys.revoke(first[:10])
    keys.rotate("acme", keep_s=0)
    with pytest.raises(LookupError, match=second[:10]):
        keys.rotate(second[:10], keep_s=60)


def test_a_key_that_ends_soon_is_not_prolonged_by_rotating_it(path: Path) -> None:
    clock = Clock()
    keys = KeyStore(path, clock)
    old = keys.create("acme", lasts_s=10)
    new = keys.rotate("acme", keep_s=60)
    clock.now += 11
    assert keys.check(old) is None
    assert keys.check(new) is None


def test_a_file_from_before_keys_expired_is_read_and_kept(path: Path) -> None:
    digest = module._digest("bk-old")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "CREATE TABLE keys"
            " (digest TEXT PRIMARY KEY, prefix TEXT, tenant TEXT, scopes TEXT, created_at REAL)"
        )
        db.execute("INSERT INTO keys VALUES (?, 'bk-old', 'acme', 'chat', 1.0)", (digest,))
    keys = KeyStore(path)
    found = keys.check("bk-old")
    assert found is not None
    assert (found.tenant, found.expires_at) == ("acme", None)
    assert keys.check(keys.create("other", lasts_s=60))


def test_the_file_is_not_read_for_every_request(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeyStore(path)
    key = keys.create("acme")
    opened: list[int] = []
    connect = sqlite3.connect
    monkeypatch.setattr(
        module.sqlite3, "connect", lambda *a, **k: (opened.append(1), connect(*a, **k))[1]
    )
    monkeypatch.setattr(module, "FRESH_S", 3600.0)
    for _ in range(100):
        assert keys.check(key)
        assert keys.check("bk-guess") is None
    assert len(opened) == 1


def test_what_another_process_does_is_seen_within_a_second(path: Path) -> None:
    serving, command = KeyStore(path), KeyStore(path)
    key = command.create("acme")
    assert serving.check(key)
    command.revoke(key[:10])
    eventually(lambda: serving.check(key) is None, 5)
    assert serving.check(command.create("acme"))


def test_no_reader_meets_a_half_made_file(path: Path) -> None:
    failures: list[Exception] = []
    made = threading.Event()

    def read() -> None:
        keys = KeyStore(path)
        while not made.is_set():
            try:
                keys.check("bk-guess")
            except KeysUnreadable as error:
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for _ in range(5):
        KeyStore(path).create("acme")
    made.set()
    for reader in readers:
        reader.join()
    assert failures == []


# The server


def test_revoking_the_last_key_closes_the_server(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    running = serve(settings, StubEngine("Hello."))
    assert running.http("GET", "/v1/models").status_code == 200
    keys = KeyStore(settings.data_dir / "keys.sqlite")
    key = keys.create("acme")
    assert running.with_key(key).http("GET", "/v1/models").status_code == 200
    keys.revoke(key[:10])
    eventually(lambda: running.with_key(key).http("GET", "/v1/models").status_code == 401, 5)
    for headers in ({}, {"Authorization": "Bearer unused"}, {"Authorization": ""}):
        refused = running.http("GET", "/v1/models", headers=headers)
        assert refused.status_code == 401
        assert "burnish keys add" in refused.json()["error"]["message"]
    again = keys.create("acme")
    assert running.with_key(again).http("GET", "/v1/models").status_code == 200


def test_a_key_file_that_cannot_be_read_admits_nobody(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "keys.sqlite").write_bytes(b"no database" * 100)
    running = serve(settings, StubEngine("Hello."))
    refused = running.http("GET", "/v1/models")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "keys_unreadable")
