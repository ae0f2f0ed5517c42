"""The guard: no child outlives the supervisor, not even when the supervisor is killed with -9.

A tiny process that holds the reading end of a pipe. The supervisor writes `+pgid` when it starts
a child and `-pgid` when one is gone; when the pipe closes, the guard ends what is left, group by
group. It also holds the data folder's lock, so that the next `burnish up` cannot start before the
last child of this one has gone. It runs as a plain script: only the standard library, 10 MB.

Left out: prctl(PR_SET_PDEATHSIG), which is Linux only and does not reach grandchildren.
"""

from __future__ import annotations

import os
import signal
import sys
import time

GRACE = 10.0


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end(groups: list[int], grace: float = GRACE) -> None:
    """Ask every group to stop, the last started first, then insist."""
    for sig, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 2.0)):
        left = [group for group in groups if alive(group)]
        for group in reversed(left):
            try:
                os.killpg(group, sig)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + patience
        while any(alive(group) for group in left) and time.monotonic() < deadline:
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
    end(groups)


if __name__ == "__main__":
    main()
