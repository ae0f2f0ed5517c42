"""POST /v1/feedback/tokens: what a product's server gives to a browser, so that it may judge one answer."""

from __future__ import annotations

import time
from typing import Annotated, Any

from burnish.feedback.ranges import Choice, Label
from burnish.serving.api import feedback_tokens, granted, judgeable
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.feedback_tokens import DEFAULT_S, LONGEST_S, SHORTEST_S, FeedbackGrant
from burnish.serving.api.json_body import Route
from burnish.serving.api.service import service_of
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field


class TokenRequest(BaseModel):
    """Whose judgements a token is to take: one user's, on one choice of one interaction."""

    model_config = ConfigDict(extra="forbid")

    interaction_id: Label
    choice: Choice = 0
    user: Label | None = None
    expires_in: Annotated[int, Field(ge=SHORTEST_S, le=LONGEST_S)] = DEFAULT_S


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1/feedback/tokens", tags=["feedback"], route_class=Route)
    product = Depends(auth.require("feedback"))

    @api.post("", status_code=201)
    async def mint(
        request: Request, body: TokenRequest, who: Principal = product
    ) -> dict[str, Any]:
        """A token with which a browser may judge one answer, for `expires_in` seconds."""
        service = service_of(request)
        judgeable.check_own(service, who, body.interaction_id, "interaction_id")
        judgeable.check_recorded(body.interaction_id, "interaction_id")
        judgeable.check_choice(body.interaction_id, body.choice, "choice")
        expires_at = int(time.time()) + body.expires_in
        grant = FeedbackGrant(
            who.tenant, body.interaction_id, body.choice, body.user, granted.key_id(who), expires_at
        )
        return {
            "object": "feedback.token",
            "token": feedback_tokens.mint(service.secret, grant),
            "interaction_id": body.interaction_id,
            "choice": body.choice,
            "user": body.user,
            "expires_at": expires_at,
        }

    return api
