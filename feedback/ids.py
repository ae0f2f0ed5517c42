"""Interaction ids that prove by themselves which tenant they were given to.

    chatcmpl-<24 base32 characters: 120 random bits><2 hex digits: the number of choices>
        -<16 base32 characters: 80 bits of HMAC-SHA256>

Older ids do not tell the number of choices. Feedback may come days later and to another process than the one that answered. Checking the
signature needs no look-up, so a judgement is refused or accepted before anything is stored.
"""

import base64
import contextlib
import hmac
import os
import secrets
from pathlib import Path

PREFIX = "chatcmpl-"
_RANDOM_BYTES, _SIGNATURE_BYTES = 15, 10
_LENGTH = len(PREFIX) + 24 + 1 + 16


def new_interaction_id(secret: bytes, tenant: str, choices: int = 1) -> str:
    body = f"{_base32(secrets.token_bytes(_RANDOM_BYTES))}{choices:02x}"
    return f"{PREFIX}{body}-{_sign(secret, tenant, body)}"


def check_interaction_id(secret: bytes, tenant: str, interaction_id: str) -> bool:
    """Whether we gave this id to this tenant. False, never an error, for anything else."""
    if len(interaction_id) not in (_LENGTH, _LENGTH + 2) or not interaction_id.startswith(PREFIX):
        return False
    body, _, signature = interaction_id[len(PREFIX) :].partition("-")
    expected = _sign(secret, tenant, body)
    # compare_digest takes text only where it is ASCII.
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogatepass"))


def choices_of(interaction_id: str) -> int | None:
    """How many answers a checked id was given to; None for one that does not tell."""
    told = interaction_id[len(PREFIX) :].partition("-")[0][24:]
    return int(told, 16) if told else None


def load_secret(data_dir: Path) -> bytes:
    """The signing secret: BURNISH_SECRET, or the file `secret`, made at the first call.

    Processes that start together agree on one: whoever links the file first wins.
    """
    if given := os.environ.get("BURNISH_SECRET"):
        return given.encode()
    path = Path(data_dir) / "secret"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".secret-{secrets.token_hex(8)}")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(scratch, path)
        scratch.unlink()
    return path.read_bytes()


def _sign(secret: bytes, tenant: str, body: str) -> str:
    message = b"\0".join(
        [b"burnish interaction", tenant.encode(), body.encode("utf-8", "surrogatepass")]
    )
    return _base32(hmac.digest(secret, message, "sha256")[:_SIGNATURE_BYTES])


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().lower()
