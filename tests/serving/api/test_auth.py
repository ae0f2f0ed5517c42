"""API keys at rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from burnish.serving.api.auth import KeyStore, is_loopback


def test_a_key_is_stored_as_a_hash_and_found_by_itself_only(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys.sqlite")
    assert not keys
    key = keys.create("acme", ["chat", "feedback"])
    assert keys
    who = keys.check(key)
    assert who is not None
    assert (who.tenant, who.scopes) == ("acme", {"chat", "feedback"})
    assert keys.check(key + "x") is None
    assert key.encode() not in (tmp_path / "keys.sqlite").read_bytes()
    assert (tmp_path / "keys.sqlite").stat().st_mode & 0o777 == 0o600


def test_keys_are_listed_by_prefix_and_revoked(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys.sqlite")
    key = keys.create("acme")
    assert [info.prefix for info in keys.list()] == [key[:10]]
    assert keys.revoke(key[:10])
    assert not keys.revoke(key[:10])
    assert keys.check(key) is None


@pytest.mark.parametrize(
    ("tenant", "scopes"), [("", ["chat"]), ("a:b", ["chat"]), ("a", ["root"]), ("a", [])]
)
def test_bad_tenants_and_scopes_are_refused(tmp_path: Path, tenant: str, scopes: list[str]) -> None:
    with pytest.raises(ValueError):
        KeyStore(tmp_path / "keys.sqlite").create(tenant, scopes)


def test_what_counts_as_loopback() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "localhost", "::1"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "127.evil.example"))
