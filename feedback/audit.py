"""The audit log: who promoted, rolled back, erased, changed keys or settings, and why; only ever appended to.

    audit.log            a JSON object a line: n (from 1), at, who, what, about, why, details, mac
    audit.head           the last line's n and mac, signed: without it a line removed at the end would not be missed
    audit-key            the keyring that signs (keyring.py); BURNISH_AUDIT_KEY in its place

A mac is HMAC-SHA256 (RFC 2104) over the line before's mac and the line itself, as in Schneier and Kelsey's secure audit
logs (1999): a line that was changed, removed or put in breaks the chain where that was. Who holds the key can forge
all of it; keep copies elsewhere where that matters. Lines name people by pseudonym. Every process of a data folder appends to
the same file. Left out: one log for several data folders; each replica on a folder of its own has its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from burnish.feedback.keyring import Keyring, KeyringFile, write_private
from burnish.feedback.masking import masked

LOG, HEAD = "audit.log", "audit.head"
_BEGIN = ""  # the mac before the first line


@dataclass(frozen=True)
class Entry:
    """One line. `at` in seconds since the epoch; `about`: what it was done to."""

    n: int
    at: float
    who: str
    what: str
    about: str = ""
    why: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    entry: Entry
    mac: str

    def text(self) -> str:
        return json.dumps({**asdict(self.entry), "mac": self.mac}, ensure_ascii=False)


class AuditLog:
    """The log of a data folder. Calls block."""

    def __init__(self, data_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = Path(data_dir), clock
        self._path, self._head = self._folder / LOG, self._folder / HEAD
        self._keys = KeyringFile(self._folder / "audit-key", "BURNISH_AUDIT_KEY")

    def append(
        self,
        who: str,
        what: str,
        about: str = "",
        why: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Returns once the line is on disk. Raises OSError."""
        keyring = self._keys.read()
        with self._locked() as handle:
            n, mac = self._end(handle)
            entry = Entry(n + 1, self._clock(), who, what, about, masked(why), details or {})
            line = Line(entry, _mac(keyring, mac, entry))
            os.write(handle, f"{line.text()}\n".encode())
            os.fsync(handle)
            self._write_head(keyring, line)
        return entry

    def entries(self, limit: int | None = None) -> list[Entry]:
        """The newest `limit`, oldest first. Lines that cannot be read are left out; `check` names them."""
        found = []
        for text in self._lines():
            try:
                found.append(_read(text).entry)
            except (ValueError, TypeError, KeyError):
                continue
        return found if limit is None else found[-limit:]

    def check(self) -> list[str]:
        """Where the chain is broken, a sentence each; nothing if it is whole."""
        keyring, problems = self._keys.read(), []
        before, expected = _BEGIN, 1
        for place, text in enumerate(self._lines(), 1):
            try:
                line = _read(text)
            except (ValueError, TypeError, KeyError):
                problems.append(f"line {place} cannot be read: it was changed")
                before, expected = "?", expected + 1
                continue
            n = line.entry.n
            if n > expected:
                problems.append(
                    f"before line {place}, entries {_span(expected, n - 1)} are missing"
                )
            elif n < expected:
                problems.append(f"line {place} is entry {n} again, or out of its order")
            elif before != "?" and not _fits(keyring, before, line):
                problems.append(f"line {place} (entry {n}) was changed, or something before it")
            before, expected = line.mac, n + 1
        return problems + self._check_head(keyring, before, expected - 1)

    def _check_head(self, keyring: Keyring, mac: str, n: int) -> list[str]:
        try:
            head = json.loads(self._head.read_text())
            said = f"{head['n']} {head['mac']}".encode()
            good = keyring.verifies(said, bytes.fromhex(head["signature"]))
        except FileNotFoundError:
            return (
                [f"{HEAD} is missing: whether the end of the log is, cannot be told"] if n else []
            )
        except (ValueError, TypeError, KeyError):
            good, head = False, {}
        if not good:
            return [f"{HEAD} was changed"]
        if head["n"] > n:
            return [f"at the end, entries {_span(n + 1, head['n'])} are missing"]
        return [] if head["n"] < n or head["mac"] == mac else [f"line {n} was changed"]

    def _lines(self) -> list[str]:
        try:
            return self._path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def _end(self, handle: int) -> tuple[int, str]:
        """The last entry's number and mac. What a writer that died left of a line is cut off: nobody was told
        that it is there."""
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(handle, whole)
        last = content[:whole].rstrip(b"\n").rpartition(b"\n")[2]
        if not last:
            return 0, _BEGIN
        try:
            line = _read(last.decode(errors="replace"))
        except (
            ValueError,
            TypeError,
            KeyError,
        ):  # somebody changed it; what follows goes on behind
            return len(content[:whole].splitlines()), "?"
        return line.entry.n, line.mac

    def _write_head(self, keyring: Keyring, line: Line) -> None:
        n, mac = line.entry.n, line.mac
        signature = keyring.sign(f"{n} {mac}".encode()).hex()
        write_private(self._head, json.dumps({"n": n, "mac": mac, "signature": signature}).encode())

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, open to append, alone among processes and threads."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)


def _read(text: str) -> Line:
    fields = json.loads(text)
    mac = fields.pop("mac")
    return Line(Entry(**fields), mac)


def _message(before: str, entry: Entry) -> bytes:
    return f"{before}\n{json.dumps(asdict(entry), sort_keys=True)}".encode()


def _mac(keyring: Keyring, before: str, entry: Entry) -> str:
    return keyring.sign(_message(before, entry)).hex()


def _fits(keyring: Keyring, before: str, line: Line) -> bool:
    try:
        mac = bytes.fromhex(line.mac)
    except (ValueError, TypeError):
        return False
    return keyring.verifies(_message(before, line.entry), mac)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
