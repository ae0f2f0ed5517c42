"""A small file system of its own, to be filled and freed: tmpfs, which root may mount (Linux)."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_FILLER = "filler"


@dataclass(frozen=True)
class SmallDisk:
    """A mounted file system; `folder` is its root."""

    folder: Path

    def free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def fill(self, leave: int = 0) -> None:
        """Take all but `leave` bytes, as another program's file would."""
        block = bytes(2**16)
        with (self.folder / _FILLER).open("ab", buffering=0) as file:
            try:
                while (room := self.free() - leave) > 0:
                    file.write(block[:room])
            except OSError:  # someone else was quicker
                return

    def clear(self) -> None:
        """Give back what `fill` took."""
        (self.folder / _FILLER).unlink(missing_ok=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


def mount_small_disk(folder: Path, megabytes: int) -> SmallDisk:
    """Mount one on `folder`. Raises OSError where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise OSError(done.stderr.strip())
    return SmallDisk(folder)
