"""Which addresses are this machine's own."""

from __future__ import annotations

from burnish.serving.api.auth import is_loopback


def test_what_counts_as_loopback() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "localhost", "::1"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "127.evil.example"))
