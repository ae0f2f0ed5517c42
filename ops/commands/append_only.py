"""Redis's append-only files, checked and cut by the tool that comes with Redis or Valkey.

The tool cuts at the first damage: what is left is a state that the server has been in. Left out:
commands behind the damage, since applying them without what went before would make up a state.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from burnish.ops.supervisor.services import redis_binary

NAMES = ("redis-check-aof", "valkey-check-aof")


class AppendOnlyFiles:
    """The folder of a manifest and the files it lists, in the order they are replayed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def _manifest(self) -> Path | None:
        return next(self._folder.glob("*.manifest"), None)

    def problem(self) -> str | None:
        """What the tool says is wrong; None if nothing is."""
        manifest = self._manifest
        if manifest is None:
            return "there is no manifest" if any(self._folder.iterdir()) else None
        with _tool() as tool:
            done = _run([*tool, manifest.name], self._folder)
        if done.returncode == 0:
            return None
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {done.returncode}"

    def fix(self) -> tuple[int, int]:
        """Cut at the first damage; returns the bytes that are left and those cut off. (0, ...):
        nothing can be kept."""
        before = self._size()
        manifest = self._manifest
        if manifest is not None:
            with _tool() as tool:
                _run([*tool, "--fix", manifest.name], self._folder, answer="y\n")
        kept = self._size() if self.problem() is None else 0
        return kept, before - kept

    def _size(self) -> int:
        return sum(file.stat().st_size for file in self._folder.glob("*.aof"))


@contextmanager
def _tool() -> Iterator[list[str]]:
    """The checker on PATH, else the server's own binary under the checker's name, which makes it
    one (Redis and Valkey decide by it)."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is not None:
        yield [found]
        return
    with tempfile.TemporaryDirectory(prefix="burnish-check-aof-") as scratch:
        server = redis_binary()
        name = NAMES["valkey" in Path(server).name]
        link = Path(scratch) / name
        link.symlink_to(server)
        yield [str(link)]


def _run(command: list[str], folder: Path, answer: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, input=answer, capture_output=True, text=True, errors="replace"
    )
