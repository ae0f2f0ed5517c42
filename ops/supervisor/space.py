"""The supervisor's eye on the disk: waits for space before a start, notices when it is back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from burnish.feedback.disk import DiskSpace
from burnish.ops.settings import UpSettings

POLL_S = 0.2


def disk_of(settings: UpSettings) -> DiskSpace:
    return DiskSpace(settings.data_dir.resolve(), settings.disk_low_mb * 10**6)


def await_space(
    disk: DiskSpace, say: Callable[[str], None], wait: Callable[[float], bool | None]
) -> None:
    """Return once the disk is no longer full, or `wait` is true."""
    if disk.is_full():
        say(f"[yellow]waiting for space: {disk}[/yellow]")
    while disk.is_full() and not wait(POLL_S):
        pass


class SpaceWatch:
    """Tells each change once."""

    def __init__(self, disk: DiskSpace) -> None:
        self.disk = disk
        self._was_full = False

    def change(self) -> Literal["full", "back"] | None:
        """What the disk has become since the last call."""
        before, self._was_full = self._was_full, self.disk.is_full()
        if self._was_full == before:
            return None
        return "full" if self._was_full else "back"
