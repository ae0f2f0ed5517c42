"""Follows the children's logs and repeats only what a person should see: warnings and errors.

Everything else stays in `<data folder>/logs`. A child that repeats itself is quoted once a minute.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

LOUD = re.compile(r"\b(WARNING|WARN|ERROR|CRITICAL|FATAL)\b")
# Advice to the owner of a server; on a laptop it would only frighten. It stays in the log.
HARMLESS = re.compile(r"Memory overcommit must be enabled")
# The parts of a line that differ between two sayings of the same thing.
VARYING = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8,}|\d+")
QUIET_FOR = 60.0


class LogTail:
    def __init__(self, paths: dict[str, Path]):
        self._paths = paths
        self._offsets = {n: p.stat().st_size if p.exists() else 0 for n, p in paths.items()}
        self._said: dict[str, float] = {}

    def loud_lines(self) -> list[tuple[str, str]]:
        """(name, line) for each new warning or error."""
        found = []
        for name, path in self._paths.items():
            for line in self._fresh(name, path):
                if LOUD.search(line) and not HARMLESS.search(line) and self._new(name, line):
                    found.append((name, line.strip()[:300]))
        return found

    def _fresh(self, name: str, path: Path) -> list[str]:
        if not path.exists():
            return []
        size = path.stat().st_size
        start = self._offsets[name] if size >= self._offsets[name] else 0
        if size == start:
            return []
        with path.open("rb") as log:
            log.seek(start)
            data = log.read(1_000_000)
        # An unfinished line waits for its end.
        whole = data[: data.rfind(b"\n") + 1]
        self._offsets[name] = start + len(whole)
        return whole.decode(errors="replace").splitlines()

    def _new(self, name: str, line: str) -> bool:
        shape = name + VARYING.sub("#", line)
        now = time.monotonic()
        if now - self._said.get(shape, -QUIET_FOR) < QUIET_FOR:
            return False
        self._said[shape] = now
        return True
