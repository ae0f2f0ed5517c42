"""Where a process spends its time, by function: py-spy's samples of what holds the interpreter.

`pip install burnish[bench]` brings py-spy; without it there is no profile. It needs the right to trace
other processes.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections import Counter
from pathlib import Path

SAMPLES_A_SECOND = 250
MOST = 120  # functions that are told


def start(pid: int, seconds: float, into: Path) -> subprocess.Popen[bytes] | None:
    """Begin to watch a process, which slows it somewhat; None without py-spy."""
    binary = _py_spy()
    if binary is None:
        return None
    command = [str(binary), "record", "--pid", str(pid), "--duration", str(round(seconds)), "--gil"]
    command += ["--rate", str(SAMPLES_A_SECOND), "--format", "raw", "--output", str(into)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def shares(samples: str) -> dict[str, float]:
    """Of "frame;frame;frame count" lines: the share of samples in which a function of ours or of a
    library was on the stack, the largest first. Of a function's lines each counts as it."""
    total, seen = 0, Counter[str]()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        total += int(count)
        seen.update({frame.rpartition(":")[0] + ")": int(count) for frame in stack.split(";")})
    return {name: round(count / total, 3) for name, count in seen.most_common(MOST)}


def told(watching: subprocess.Popen[bytes] | None, into: Path) -> dict[str, float]:
    """Shares of what was watched, once it has been; none where nothing was."""
    if watching is None or watching.wait(60) or not into.exists():
        return {}
    return shares(into.read_text())


def _py_spy() -> Path | None:
    """Its program, as the package lists it."""
    try:
        files = importlib.metadata.files("py-spy") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(f.locate())) for f in files if f.name == "py-spy"), None)
