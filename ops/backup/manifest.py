"""The manifest of a backup: what is in it, and the hash of every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from burnish.ops.commands.client import ServiceError

NAME = "backup.json"


@dataclass(frozen=True)
class Manifest:
    """`made_at`: seconds since the epoch, when it began. `holds`: a part -> what it is, for people.
    `files`: path -> SHA-256."""

    made_at: float
    burnish: str
    holds: Mapping[str, str]
    files: Mapping[str, str]

    def write(self, folder: Path) -> None:
        (folder / NAME).write_text(json.dumps(asdict(self), indent=1) + "\n")


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below, the manifest excepted."""
    return {
        str(path.relative_to(folder)): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / NAME
    }


def read(folder: Path) -> Manifest:
    """The manifest of a whole backup. Raises ServiceError where a file is missing or was changed."""
    try:
        found = Manifest(**json.loads((folder / NAME).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ServiceError(f"{folder} is no backup: it has no readable {NAME}") from error
    now = hashes(folder)
    for name, sha256 in found.files.items():
        if now.get(name) != sha256:
            problem = "is missing" if name not in now else "was changed"
            raise ServiceError(f"{folder}/{name} {problem}: this backup is not whole")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
