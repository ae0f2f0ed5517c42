"""Reaper: kills remaining children when the supervisor dies, even by SIGKILL.

A small process that reads a pipe. The supervisor writes `+pgid` when it starts a child and `-pgid`
when one has ended; at end of file the reaper stops every remaining process group. It also holds the
data folder's lock, so that the next `burnish up` cannot start before the last child of this one has
ended. It runs as a plain script on the standard library alone, in 10 MB.

Left out: prctl(PR_SET_PDEATHSIG), which exists only on Linux and does not reach grandchildren.
"""

from __future__ import annotations

import os
import signal
import sys
import time

TERM_TIMEOUT_S = 10.0
KILL_TIMEOUT_S = 2.0


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def stop_groups(groups: list[int], term_timeout_s: float = TERM_TIMEOUT_S) -> None:
    """SIGTERM every process group, the last started first; SIGKILL what outlasts the timeout."""
    for sig, timeout_s in ((signal.SIGTERM, term_timeout_s), (signal.SIGKILL, KILL_TIMEOUT_S)):
        remaining = [group for group in groups if alive(group)]
        for group in reversed(remaining):
            try:
                os.killpg(group, sig)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + timeout_s
        while any(alive(group) for group in remaining) and time.monotonic() < deadline:
            time.sleep(0.05)


def main() -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    groups: list[int] = []
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.append(group)
        elif group in groups:
            groups.remove(group)
    stop_groups(groups)


if __name__ == "__main__":
    main()
