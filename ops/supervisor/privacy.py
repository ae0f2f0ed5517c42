"""The data folder is its owner's alone: it holds what people wrote, and every secret.

The folder is closed, and with the mask no process that `burnish up` starts makes a file that others
may read. Left out: what an administrator may read, and encryption.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def close_to_others(folder: Path) -> str | None:
    """Make `folder` private, and what this process and its children make from now on.

    Returns why it could not be closed: it belongs to somebody else, or lies on a file system that
    keeps no modes.
    """
    os.umask(OTHERS)
    folder.mkdir(parents=True, exist_ok=True)
    if not _open_to_others(folder):
        return None
    try:
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~OTHERS)
    except PermissionError:
        return f"{folder} can be read by other users and belongs to one: its owner should close it"
    if _open_to_others(folder):
        return f"{folder} can be read by other users: its file system keeps no modes"
    return None


def _open_to_others(folder: Path) -> bool:
    return bool(folder.stat().st_mode & OTHERS)
