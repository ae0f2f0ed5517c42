"""The other end of a connection belongs to us, to another user of the machine, or to nobody."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from burnish.serving.api.local_user import Address, is_ours

NOBODY = 65534
CONNECT_AS_NOBODY = f"""
import os, socket, sys
"".encode("idna")  # imported while we may read it
os.setuid({NOBODY})
held = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print(held.getsockname()[1], flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


@pytest.fixture(params=["127.0.0.1", "::1"])
def listening(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    host = request.param
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with made:
        yield made


def connected(listening: socket.socket) -> tuple[socket.socket, Address, Address]:
    client = socket.create_connection(listening.getsockname()[:2])
    return client, client.getsockname()[:2], listening.getsockname()[:2]


def test_our_own_connection_is_ours(listening: socket.socket) -> None:
    client, peer, here = connected(listening)
    with client:
        assert is_ours(peer, here) is True
        client.shutdown(socket.SHUT_WR)  # all is sent, the answer is awaited
        assert is_ours(peer, here) is True


def test_a_closed_end_is_nobodys(listening: socket.socket) -> None:
    client, peer, here = connected(listening)
    client.close()
    assert is_ours(peer, here) is False


def test_an_invented_address_is_nobodys(listening: socket.socket) -> None:
    here = listening.getsockname()[:2]
    assert is_ours((here[0], 1), here) is False
    assert is_ours(here, (here[0], 1)) is False  # where we listen, but are not connected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_connection_is_not_ours(listening: socket.socket) -> None:
    here = listening.getsockname()[:2]
    argv = [sys.executable, "-c", CONNECT_AS_NOBODY, here[0], str(here[1])]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        port = int(stranger.stdout.readline())
        assert is_ours((here[0], port), here) is False
        stranger.communicate()


def test_a_system_that_does_not_tell(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, peer, here = connected(listening)
    monkeypatch.delattr(socket, "AF_NETLINK")
    with client:
        assert is_ours(peer, here) is None
