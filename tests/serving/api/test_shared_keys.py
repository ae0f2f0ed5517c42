"""Keys in a database: what one server, or a command, makes and revokes holds on every other one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from burnish.serving.api import keys as module
from burnish.serving.api.keys import KeyStore, KeysUnreadable
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually


def test_a_key_made_and_revoked_anywhere_counts_everywhere(tmp_path: Path, postgres_url: str):
    one, other = (KeyStore(tmp_path / name, url=postgres_url) for name in ("a", "b"))
    assert not one.in_use
    key = one.create("acme", ("chat",))
    eventually(lambda: other.check(key), 10)
    assert other.in_use
    old = one.list()[0].prefix
    newer = other.rotate("acme", keep_s=60)
    eventually(lambda: one.check(newer), 10)
    assert one.check(key), "for a while yet"
    assert other.revoke(old)
    eventually(lambda: one.check(key) is None, 10)
    assert not other.revoke(old)
    assert one.revoke(newer[:10])
    eventually(lambda: not other, 10)
    assert other.in_use, "closed for good, not open again"
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_away_is_done_without_for_a_while(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    keys = KeyStore(tmp_path / "a", url=postgres_url)
    key = keys.create("acme")
    assert keys.check(key)
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    keys._url = keys._read_stamp = "postgresql://burnish:hunter2@127.0.0.1:1/none"
    assert keys.check(key)
    monkeypatch.setattr(module, "STALE_S", 0.0)
    with pytest.raises(KeysUnreadable, match="BURNISH_KEYS_URL") as caught:
        keys.check(key)
    assert "hunter2" not in str(caught.value)


def test_two_replicas_admit_and_refuse_alike(
    serve: Callable[..., Running], settings: ServingSettings, tmp_path: Path, postgres_url: str
):
    replicas = [
        serve(
            settings.model_copy(update={"data_dir": tmp_path / name, "keys_url": postgres_url}),
            StubEngine("Hello there."),
        )
        for name in ("a", "b")
    ]
    keys = KeyStore(tmp_path / "command", url=postgres_url)
    key = keys.create("acme", ("chat",))

    def statuses() -> list[int]:
        return [one.with_key(key).http("GET", "/v1/models").status_code for one in replicas]

    eventually(lambda: statuses() == [200, 200], 10)
    keys.revoke(key[:10])
    eventually(lambda: statuses() == [401, 401], 10)
