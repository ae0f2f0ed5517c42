"""Whose a connection over loopback is: which user of this machine holds its other end.

Linux's sock_diag(7) finds one connection by its two addresses in 30 microseconds, where
/proc/net/tcp lists them all in milliseconds. An end that was closed belongs to nobody any more, so a
process cannot send and then hide. Left out: other systems, which tell it to root alone.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _REQUEST = 4, 20, 1  # linux/netlink.h, linux/sock_diag.h
_ANY = 0xFFFFFFFF
_LISTEN = 10  # TCP_LISTEN: a port that waits, found where no connection has the peer's
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_SOCKET = struct.Struct(">HH16s16s")  # inet_diag_sockid: its end first, as the network has it
_ENTRY = struct.Struct("=xB62xII")  # inet_diag_msg: state, user, inode
_REPLY_BYTES = 4096
ROOT = 0

Address = tuple[str, int]


def is_ours(peer: Address, here: Address) -> bool | None:
    """Whether our own user, or root, holds the end at `peer` of the connection to `here`.

    False too if no such connection is open. None where the system does not tell.
    """
    try:
        reply = _ask(peer, here)
    except OSError:
        return None
    kind = _HEADER.unpack_from(reply)[1]
    if kind != _SOCK_DIAG_BY_FAMILY:
        (code,) = struct.unpack_from("=i", reply, _HEADER.size)
        return False if -code == errno.ENOENT else None
    state, user, inode = _ENTRY.unpack_from(reply, _HEADER.size)
    return state != _LISTEN and inode != 0 and user in (os.geteuid(), ROOT)


def _ask(peer: Address, here: Address) -> bytes:
    """The kernel's answer to an inet_diag_req_v2 on one connection. Raises OSError."""
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    ends = _SOCKET.pack(peer[1], here[1], _packed(family, peer[0]), _packed(family, here[0]))
    request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, _ANY)
    request += ends + struct.pack("=III", 0, _ANY, _ANY)  # any interface, any cookie
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0)
    kind = getattr(socket, "AF_NETLINK", None)
    if kind is None:
        raise OSError("no netlink on this system")
    with socket.socket(kind, socket.SOCK_DGRAM, _SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        kernel.send(header + request)
        return kernel.recv(_REPLY_BYTES)


def _packed(family: socket.AddressFamily, host: str) -> bytes:
    return socket.inet_pton(family, host)
