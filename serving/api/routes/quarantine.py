"""/v1/learner/quarantine: whose votes count nowhere since they came too fast, and letting them out again.

Both take the scope "admin". People are named by pseudonym, which whoever knows the name can confirm.
"""

from __future__ import annotations

import json
import time
from typing import Any, Self

from burnish.feedback.contract import FREE_TASK, INTAKE_QUEUE, QUARANTINE_PREFIX
from burnish.feedback.ranges import Label, Line
from burnish.feedback.stream.user_keys import pseudonym
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.json_body import Route
from burnish.serving.api.learner_tasks import noted, send
from burnish.serving.api.service import service_of
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, model_validator
from redis.exceptions import RedisError


class Release(BaseModel):
    """`person` is the pseudonym; or `user`, the name that stands in votes. `key_id` None where the list has none."""

    model_config = ConfigDict(extra="forbid")

    tenant: Label
    person: Label | None = None
    user: Label | None = None
    key_id: Label | None = None
    why: Line = ""  # for the audit log

    @model_validator(mode="after")
    def _check_named(self) -> Self:
        if (self.person is None) == (self.user is None):
            raise ValueError("name whom: `person`, as GET /v1/learner/quarantine does, or `user`")
        return self


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1/learner/quarantine", tags=["learner"], route_class=Route)
    admin = Depends(auth.require("admin"))

    @api.get("")
    async def held(
        request: Request, policy: Label = "default", _: Principal = admin
    ) -> dict[str, Any]:
        """As of the learner's last look, the most votes first."""
        redis: Any = service_of(request).redis
        try:
            found = await redis.get(QUARANTINE_PREFIX + policy)
        except RedisError as error:
            why = f"the list cannot be read, Redis does not answer: {error}"
            return {"available": False, "why": why, "held": []}
        if found is None:
            why = f"the learner has not looked at '{policy}' yet; it does once a minute"
            return {"available": False, "why": why, "held": []}
        return {"available": True, "why": None, **json.loads(found)}

    @api.post("/release", status_code=202)
    async def release(request: Request, body: Release, who: Principal = admin) -> dict[str, Any]:
        """What they gave until now counts as anyone's from the next update on; later bursts do not."""
        service, now = service_of(request), time.time()
        person = body.person or pseudonym(body.tenant, body.user or "")
        about = {"tenant": body.tenant, "person": person, "key_id": body.key_id}
        await noted(service, who.actor, "release", person, body.why, about)
        args = [body.tenant, person, body.key_id, now, who.actor, body.why]
        await send(request, FREE_TASK, args, INTAKE_QUEUE)
        return {"tenant": body.tenant, "person": person, "key_id": body.key_id, "until": now}

    return api
