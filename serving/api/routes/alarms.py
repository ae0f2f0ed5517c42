"""/v1/learner/alarms: what keeps the champion where it is, and a while in which an alarm does not."""

from __future__ import annotations

import time
from typing import Annotated, Any

from burnish.feedback.contract import INTAKE_QUEUE, SILENCE_TASK
from burnish.feedback.ranges import Label, Line
from burnish.serving.api.alarms import alarms_of
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.errors import ApiError
from burnish.serving.api.json_body import Route
from burnish.serving.api.learner_tasks import noted, send
from burnish.serving.api.service import Service, service_of
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError

HOUR_S = 3600.0
LONGEST_HOURS = 24 * 30.0


class Silence(BaseModel):
    model_config = ConfigDict(extra="forbid")

    policy: Label = "default"
    hours: Annotated[float, Field(gt=0, le=LONGEST_HOURS)] = 24.0
    why: Line = ""  # for the audit log


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1/learner/alarms", tags=["learner"], route_class=Route)
    reader, admin = Depends(auth.require()), Depends(auth.require("admin"))

    @api.get("")
    async def alarms(
        request: Request, policy: Label = "default", _: Principal = reader
    ) -> dict[str, Any]:
        """What is `open`, the last that `closed`, and the last reading of each measure. `holds` says whether
        nothing is promoted for it."""
        service = service_of(request)
        _known(service, policy)
        try:
            told = await alarms_of(service, policy)
        except RedisError as error:
            why = f"the alarms cannot be read, Redis does not answer: {error}"
            return {"available": False, "why": why}
        if told is None:
            why = f"the learner has not looked at '{policy}' yet; it does once a minute"
            return {"available": False, "why": why}
        holds = any(not alarm["silenced"] for alarm in told["open"])
        return {"available": True, "why": None, "holds": holds, **told}

    @api.post("/{id}/silence", status_code=202)
    async def silence(
        request: Request, id: Label, body: Silence | None = None, who: Principal = admin
    ) -> dict[str, Any]:
        """Let an open alarm hold nothing back for so many hours. It stays open until it closes by itself."""
        body, service = body or Silence(), service_of(request)
        _known(service, body.policy)
        try:
            told = await alarms_of(service, body.policy) or {"open": ()}
        except RedisError as error:
            message = f"The alarms cannot be read, Redis does not answer: {error}"
            raise ApiError(503, message, code="learner_unavailable", retry_after=5) from error
        found = next((alarm for alarm in told["open"] if alarm["id"] == id), None)
        if found is None:
            message = (
                f"No alarm '{id}' of '{body.policy}' is open. GET /v1/learner/alarms lists them."
            )
            raise ApiError(404, message, param="id", code="alarm_not_found")
        until = time.time() + body.hours * HOUR_S
        about = f"{body.policy}@{found['version']}: {found['name']}"
        details = {"alarm": id, "hours": body.hours}
        await noted(service, who.actor, "silence alarm", about, body.why, details)
        await send(request, SILENCE_TASK, [id, until, who.actor, body.why], INTAKE_QUEUE)
        return {"id": id, "silenced_until": until}

    return api


def _known(service: Service, policy: str) -> None:
    if all(state.policy != policy for state in service.policies.status()):
        message = f"There is no policy '{policy}'. GET /v1/policies lists them."
        raise ApiError(404, message, param="policy", code="policy_not_found")
