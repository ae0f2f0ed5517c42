"""Interaction ids that prove by themselves which tenant they were given to.

    chatcmpl-<24 base32 characters: 120 random bits><2 hex digits: the number of choices>
        -<16 base32 characters: 80 bits of HMAC-SHA256>

Older ids do not tell the number of choices. Feedback may come days later and to another process than the one that answered. Checking the
signature needs no look-up, so a judgement is refused or accepted before anything is stored.
"""

import base64
import secrets
from pathlib import Path

from burnish.feedback.keyring import Keyring, KeyringFile

PREFIX = "chatcmpl-"
_RANDOM_BYTES, _SIGNATURE_BYTES = 15, 10
_LENGTH = len(PREFIX) + 24 + 1 + 16


def new_interaction_id(keyring: Keyring, tenant: str, choices: int = 1) -> str:
    body = f"{_base32(secrets.token_bytes(_RANDOM_BYTES))}{choices:02x}"
    return f"{PREFIX}{body}-{_base32(keyring.sign(_message(tenant, body))[:_SIGNATURE_BYTES])}"


def check_interaction_id(keyring: Keyring, tenant: str, interaction_id: str) -> bool:
    """Whether we gave this id to this tenant. False, never an error, for anything else."""
    if len(interaction_id) not in (_LENGTH, _LENGTH + 2) or not interaction_id.startswith(PREFIX):
        return False
    body, _, encoded = interaction_id[len(PREFIX) :].partition("-")
    try:
        signature = base64.b32decode(encoded.upper())
    except ValueError:
        return False
    # Base32 has several spellings of the same bytes; ours is one of them.
    return _base32(signature) == encoded and keyring.verifies(_message(tenant, body), signature)


def choices_of(interaction_id: str) -> int | None:
    """How many answers a checked id was given to; None for one that does not tell."""
    told = interaction_id[len(PREFIX) :].partition("-")[0][24:]
    return int(told, 16) if told else None


def id_keyring(data_dir: Path) -> KeyringFile:
    """What signs a service's ids: BURNISH_SECRET, or the file `secret` of its data folder."""
    return KeyringFile(Path(data_dir) / "secret", "BURNISH_SECRET")


def _message(tenant: str, body: str) -> bytes:
    return b"\0".join(
        [b"burnish interaction", tenant.encode(), body.encode("utf-8", "surrogatepass")]
    )


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().lower()
