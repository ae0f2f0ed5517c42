"""Free space of the file system that holds the data folder, and the marks at which it runs short.

Below `low_bytes` the service is degraded and says so. Below a quarter of that it is full: events
and memory are refused, so that Redis and the databases keep what is left. Everything goes on by
itself once space is back. Left out: quotas and inodes, which show as errors of the writes.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

LOW_BYTES = 200 * 10**6
RETRY_AFTER_S = 10  # what clients are told to wait


@dataclass(frozen=True)
class DiskSpace:
    """The file system of `folder`. `low_bytes=0`: never short."""

    folder: Path
    low_bytes: int = LOW_BYTES

    @property
    def full_bytes(self) -> int:
        return self.low_bytes // 4

    def free(self) -> int:
        """Bytes that may still be written."""
        return shutil.disk_usage(self.folder).free

    def is_low(self) -> bool:
        return self.free() < self.low_bytes

    def is_full(self) -> bool:
        return self.free() < self.full_bytes

    def __str__(self) -> str:
        return (
            f"the disk of {self.folder} has {self.free() / 1e6:.1f} MB free; recording stops below"
            f" {self.full_bytes / 1e6:.1f} MB and goes on by itself once there is more"
        )
