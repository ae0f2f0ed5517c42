"""Keyrings: secrets that sign, kept in a file, replaced without a restart.

    secret            what signs now: any bytes, mode 0600, made at the first use
    secret.retired    a line for each one it replaced: until when it verifies (seconds since 1970),
                      and the secret in hexadecimal

Interaction ids (ids.py) and policy versions (serving/registry) are signed by a keyring each.
Processes read a changed file at the next use. Left out: what is signed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FOREVER = float("inf")
SHORTEST_SIGNATURE = 10  # bytes; RFC 2104 asks for no fewer than 80 bits
Clock = Callable[[], float]


@dataclass(frozen=True)
class Keyring:
    """The secret that signs, and the retired ones that still verify."""

    current: bytes
    retired: tuple[bytes, ...] = ()

    def sign(self, message: bytes) -> bytes:
        """HMAC-SHA256 (RFC 2104): 32 bytes."""
        return hmac.digest(self.current, message, "sha256")

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether one of our secrets made `signature`, or at least 80 bits of its beginning."""
        return len(signature) >= SHORTEST_SIGNATURE and any(
            hmac.compare_digest(hmac.digest(secret, message, "sha256")[: len(signature)], signature)
            for secret in (self.current, *self.retired)
        )


class KeyringFile:
    """The keyring at `path`, or, for hosts that share no folder, in two environment variables:
    `variable`, and `variable`_RETIRED with the retired secrets separated by blanks."""

    def __init__(self, path: Path, variable: str, clock: Clock = time.time):
        self.path = path
        self.variable = variable
        self._clock = clock
        self._seen: tuple[object, ...] = ()
        self._current = b""
        self._retired: list[tuple[float, bytes]] = []

    def read(self, before_use: Callable[[Keyring], None] | None = None) -> Keyring:
        """The keyring as it is now; made if there is none.

        `before_use` is given a new keyring before anybody else can see it; when it raises, none
        has been made. Processes that come together agree on one.
        """
        if given := os.environ.get(self.variable):
            retired = os.environ.get(f"{self.variable}_RETIRED", "").split()
            return Keyring(given.encode(), tuple(secret.encode() for secret in retired))
        if not self.path.exists():
            self._create(before_use)
        if (seen := (stamp_of(self.path), stamp_of(self._retired_path))) != self._seen:
            self._current, self._retired = self.path.read_bytes(), self._read_retired()
            self._seen = seen
        now = self._clock()
        return Keyring(self._current, tuple(s for until, s in self._retired if until > now))

    def rotate(self, keep_s: float = FOREVER) -> Keyring:
        """A new secret signs from now on; the old one verifies for `keep_s` seconds more.

        Raises ValueError where the environment gives the secret.
        """
        if os.environ.get(self.variable):
            raise ValueError(
                f"{self.variable} is set in the environment: put its value into"
                f" {self.variable}_RETIRED and a new one in its place"
            )
        self.read()
        with self._locked():
            now = self._clock()
            kept = [(until, secret) for until, secret in self._read_retired() if until > now]
            kept.append((now + keep_s, self.path.read_bytes()))
            # First what verifies: between the two writes the old secret is only listed twice.
            lines = [f"{until} {secret.hex()}\n" for until, secret in kept]
            write_private(self._retired_path, "".join(lines).encode())
            write_private(self.path, _new_secret())
        return self.read()

    def drop_retired(self) -> None:
        """Only the current secret verifies from now on."""
        self._retired_path.unlink(missing_ok=True)

    @property
    def _retired_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.retired")

    def _create(self, before_use: Callable[[Keyring], None] | None) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            if not self.path.exists():
                made = Keyring(_new_secret())
                if before_use is not None:
                    before_use(made)
                write_private(self.path, made.current)

    def _read_retired(self) -> list[tuple[float, bytes]]:
        try:
            lines = self._retired_path.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [
            (float(until), bytes.fromhex(secret))
            for until, secret in (line.split() for line in lines)
        ]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among processes and threads: the folder itself is the lock, so that no file stays."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file by one that only its owner may read, whole and on disk, or not at all."""
    scratch = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _new_secret() -> bytes:
    return secrets.token_hex(32).encode()


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """Changes whenever the file is replaced or written; None without one."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
