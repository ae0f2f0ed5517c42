"""Tails the children's logs and returns only new warnings and errors.

Everything else stays in `<data folder>/logs`. Lines that differ only in ids and numbers count as the
same, and the same line is returned at most once a minute.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from burnish.ops.supervisor.damage import SIGNS

SEVERE = re.compile(r"\b(WARNING|WARN|ERROR|CRITICAL|FATAL)\b")
# Redis's advice to server operators, which a laptop does not need. It stays in the log.
IGNORED = re.compile(r"Memory overcommit must be enabled")
# Ids and numbers, masked before lines are compared.
VARIABLE_PARTS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8,}|\d+")
REPEAT_AFTER_S = 60.0


class LogTail:
    """Reads what was appended to each log since the last call; `paths` maps a service to its log."""

    def __init__(self, paths: dict[str, Path]):
        self._paths = paths
        self._offsets = {n: p.stat().st_size if p.exists() else 0 for n, p in paths.items()}
        self._last_reported: dict[str, float] = {}

    def new_warnings(self) -> list[tuple[str, str]]:
        """(service, line) for each new warning or error."""
        found = []
        for name, path in self._paths.items():
            for line in self._new_lines(name, path):
                told = SEVERE.search(line) or SIGNS.search(line)
                if told and not IGNORED.search(line) and self._report(name, line):
                    found.append((name, line.strip()[:300]))
        return found

    def _new_lines(self, name: str, path: Path) -> list[str]:
        if not path.exists():
            return []
        size = path.stat().st_size
        start = self._offsets[name] if size >= self._offsets[name] else 0
        if size == start:
            return []
        with path.open("rb") as log:
            log.seek(start)
            data = log.read(1_000_000)
        # An incomplete last line is read with its end, at a later call.
        complete = data[: data.rfind(b"\n") + 1]
        self._offsets[name] = start + len(complete)
        return complete.decode(errors="replace").splitlines()

    def _report(self, name: str, line: str) -> bool:
        """Whether the line is due, that is, was not reported within REPEAT_AFTER_S."""
        pattern = name + VARIABLE_PARTS.sub("#", line)
        now = time.monotonic()
        if now - self._last_reported.get(pattern, -REPEAT_AFTER_S) < REPEAT_AFTER_S:
            return False
        self._last_reported[pattern] = now
        return True
