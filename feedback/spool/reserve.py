"""A ballast file: disk space held back, so that the spool can still delete on a full disk.

SQLite needs space to delete: the deletion goes to its log first, and emptying the log may grow the
database. The file is given up when a commit finds the disk full, and made again once there is room.
"""

from __future__ import annotations

import os
from pathlib import Path

# The log is emptied at 4 MiB (SQLite's wal_autocheckpoint), which may grow the database by as much.
RESERVE_BYTES = 8 * 2**20


class Reserve:
    """Holds `size` bytes of the file system in a file while `held`."""

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self._path = path
        self.size = size
        self.held = False

    def hold(self) -> bool:
        """Take the space; False where there is not enough."""
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self.size)
        except OSError:
            self.give_up()
            return False
        self.held = True
        return True

    def give_up(self) -> bool:
        """Free the space; whether there was any."""
        given, self.held = self.held, False
        self._path.unlink(missing_ok=True)
        return given
