"""Interaction ids that prove by themselves which tenant they were given to.

    <prefix><24 base32 characters: 120 random bits><2 hex digits: the number of choices>
        -<16 base32 characters: 80 bits of HMAC-SHA256>

The prefix is that of the API which gave the answer. Older ids do not tell the number of choices; one
of no choices was given to an answer that is not recorded.
Feedback may come days later and to another process than the one that answered. Checking the
signature needs no look-up, so a judgement is refused or accepted before anything is stored.
"""

import base64
import secrets
from pathlib import Path

from burnish.feedback.keyring import Keyring, KeyringFile

CHAT, RESPONSE, MESSAGE = PREFIXES = ("chatcmpl-", "resp_", "msg_")
_RANDOM_BYTES, _SIGNATURE_BYTES = 15, 10
_LENGTH = 24 + 1 + 16


def new_interaction_id(
    keyring: Keyring, tenant: str, choices: int = 1, *, prefix: str = CHAT, recorded: bool = True
) -> str:
    body = f"{_base32(secrets.token_bytes(_RANDOM_BYTES))}{choices if recorded else 0:02x}"
    signature = keyring.sign(_message(tenant, prefix, body))[:_SIGNATURE_BYTES]
    return f"{prefix}{body}-{_base32(signature)}"


def check_interaction_id(keyring: Keyring, tenant: str, interaction_id: str) -> bool:
    """Whether we gave this id to this tenant. False, never an error, for anything else."""
    stem = stem_of(interaction_id)
    prefix = interaction_id[: len(interaction_id) - len(stem)]
    if len(stem) not in (_LENGTH, _LENGTH + 2) or not prefix:
        return False
    body, _, encoded = stem.partition("-")
    try:
        signature = base64.b32decode(encoded.upper())
    except ValueError:
        return False
    # Base32 has several spellings of the same bytes; ours is one of them.
    told = _message(tenant, prefix, body)
    return _base32(signature) == encoded and keyring.verifies(told, signature)


def stem_of(interaction_id: str) -> str:
    """The id without its prefix; all of it if it has none of ours."""
    known = next((prefix for prefix in PREFIXES if interaction_id.startswith(prefix)), "")
    return interaction_id.removeprefix(known)


def choices_of(interaction_id: str) -> int | None:
    """How many answers a checked id was given to, 0 if they are not recorded; None for one that does
    not tell."""
    told = stem_of(interaction_id).partition("-")[0][24:]
    return int(told, 16) if told else None


def is_recorded(interaction_id: str) -> bool:
    """Whether what a checked id was given to is recorded, to be judged and learnt from."""
    return choices_of(interaction_id) != 0


def id_keyring(data_dir: Path) -> KeyringFile:
    """What signs a service's ids: BURNISH_SECRET, or the file `secret` of its data folder."""
    return KeyringFile(Path(data_dir) / "secret", "BURNISH_SECRET")


def _message(tenant: str, prefix: str, body: str) -> bytes:
    """What is signed. Ids of chats were signed without their prefix before there were others."""
    other = [] if prefix == CHAT else [prefix.encode()]
    text = body.encode("utf-8", "surrogatepass")
    return b"\0".join([b"burnish interaction", tenant.encode(), text, *other])


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().lower()
