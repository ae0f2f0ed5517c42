"""Feedback tokens: what a product's server gives to a browser, so that it may judge one answer.

    fbt_<base64url of JSON: tenant, interaction, choice, user, key, expires>.<base64url of HMAC-SHA256>

A token lets its holder save, read and take back the judgements of one end user on one choice of one
interaction, until it expires; the product's key stays on its server. It is signed by the secret of
interaction ids, so every replica takes it and none keeps it. Left out: taking a token back before it
expires, other than by a new secret (`burnish keys rotate-ids --days 0`).
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass

from burnish.feedback.keyring import Keyring

PREFIX = "fbt_"
SHORTEST_S, LONGEST_S, DEFAULT_S = 60, 24 * 3600, 3600
_PURPOSE = b"burnish feedback token\0"


@dataclass(frozen=True)
class FeedbackGrant:
    """What a token allows. `key_id`: of the key that asked for it; `expires_at`: seconds since 1970."""

    tenant: str
    interaction_id: str
    choice: int
    user: str | None
    key_id: str | None
    expires_at: float


class TokenInvalid(ValueError):
    """A token that is not ours, or has expired; the message says which."""


def mint(keyring: Keyring, grant: FeedbackGrant) -> str:
    body = _encoded(json.dumps(asdict(grant), separators=(",", ":")).encode())
    return f"{PREFIX}{body}.{_encoded(keyring.sign(_PURPOSE + body.encode()))}"


def read(keyring: Keyring, token: str, now: float) -> FeedbackGrant:
    """Raises TokenInvalid."""
    body, _, signature = token.removeprefix(PREFIX).partition(".")
    try:
        given = _decoded(signature)
        # Base64 has several spellings of the same bytes; ours is one of them.
        if _encoded(given) != signature or not keyring.verifies(_PURPOSE + body.encode(), given):
            raise TokenInvalid("This feedback token was not made by this service.")
    except ValueError as error:  # no base64, or no ASCII
        raise TokenInvalid("This is no feedback token.") from error
    grant = FeedbackGrant(**json.loads(_decoded(body)))
    if now >= grant.expires_at:
        raise TokenInvalid(
            "This feedback token has expired. Ask the product's server for a new one."
        )
    return grant


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
