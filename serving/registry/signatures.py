"""Signatures of policy versions: who can write to MLflow cannot thereby be served.

The learner signs what it registers with a secret of the data folder, and serving loads nothing
else. Signed are the policy, the parent, the hashes of adapter and base, and the digests of lineage
and gate report, so that a signature is worth nothing on another version. Aliases are not signed:
who may move them may choose among signed versions. The frozen base has nothing to load and needs
no signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from burnish.feedback.keyring import Keyring, KeyringFile
from burnish.serving.registry.versions import PolicyVersion


class Keys(Protocol):
    """Where the registry's keyring comes from; `KeyringFile` says what each does."""

    def read(self, before_use: Callable[[Keyring], None] | None = None) -> Keyring: ...

    def rotate(self) -> Keyring: ...

    def drop_retired(self) -> None: ...


def signing_keys(data_dir: Path) -> KeyringFile:
    """What signs versions: BURNISH_SIGNING_KEY, or the file `signing-key` of the data folder."""
    return KeyringFile(Path(data_dir) / "signing-key", "BURNISH_SIGNING_KEY")


def sign(keyring: Keyring, version: PolicyVersion) -> str:
    """HMAC-SHA256 in hexadecimal."""
    return keyring.sign(_message(version)).hex()


def is_signed(keyring: Keyring, version: PolicyVersion) -> bool:
    """Whether the version carries a signature by this keyring over what it is."""
    try:
        signature = bytes.fromhex(version.signature or "")
    except ValueError:
        return False
    return len(signature) == 32 and keyring.verifies(_message(version), signature)


def _message(version: PolicyVersion) -> bytes:
    content = {
        "policy": version.policy,
        "parent": version.parent,
        "adapter": version.sha256,
        "base": version.base_sha256,
        "lineage": _digest(version.lineage),
        "gate": _digest(version.gate_report),
    }
    return b"burnish policy version\0" + _canonical(content)


def _digest(document: Any) -> str | None:
    return None if document is None else hashlib.sha256(_canonical(document)).hexdigest()


def _canonical(document: Any) -> bytes:
    """The same bytes before and after the registry kept the document as JSON."""
    kept = json.loads(json.dumps(document))
    return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()
