"""What a feedback token's grant comes to: the one place of a judgement, and nothing beside it.

Fields that a browser leaves out are filled in from the grant; those that it names have to agree with it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from burnish.feedback.events import FeedbackEvent
from burnish.serving.api.auth import Principal
from burnish.serving.api.errors import ApiError
from burnish.serving.api.feedback_tokens import FeedbackGrant


def key_id(who: Principal) -> str | None:
    """By which key a judgement came, as events tell it: that of the request, or that of its token."""
    if who.grant is not None:
        return who.grant.key_id
    return hashlib.sha256(who.key.encode()).hexdigest()[:16] if who.key else None


def filled(grant: FeedbackGrant, body: Any) -> dict[str, Any]:
    """A judgement as the grant lets it be. Raises ApiError naming the field that goes beyond it."""
    if not isinstance(body, dict):
        message = "With a feedback token judgements come one at a time, as one JSON object."
        raise ApiError(403, message, code="token_not_allowed")
    for field, why in (
        ("id", "the server names it"),
        ("session_id", "it is for an interaction"),
        ("over", "it is for one answer"),
    ):
        if body.get(field) is not None:
            message = f"A feedback token allows no '{field}': {why}."
            raise ApiError(403, message, param=field, code="token_not_allowed")
    place = {"interaction_id": grant.interaction_id, "choice": grant.choice, "user": grant.user}
    for field, allowed in place.items():
        if body.get(field, allowed) != allowed:
            raise beyond(field)
    return {**body, **place}


def check_interaction(grant: FeedbackGrant, interaction_id: str | None) -> None:
    """Raises ApiError (403) for another interaction than the grant's."""
    if interaction_id is not None and interaction_id != grant.interaction_id:
        raise beyond("interaction_id")


def covers(grant: FeedbackGrant, event: FeedbackEvent) -> bool:
    """Whether a judgement is one of those that the grant is about."""
    told = (event.tenant, event.interaction_id, event.choice, event.user)
    return told == (grant.tenant, grant.interaction_id, grant.choice, grant.user)


def beyond(field: str) -> ApiError:
    message = (
        f"This feedback token is for another {field}: ask the product's server for one of its own."
    )
    return ApiError(403, message, param=field, code="token_not_allowed")
