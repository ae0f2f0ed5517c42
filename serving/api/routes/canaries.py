"""/v1/policies/NAME/canary: how a challenger does on its share of users, and a person's hand on it.

Reading takes any key, changing the scope "admin". A change goes through the registry, where serving and the learner
see it within seconds; the learner's figures are read from Redis. Promote and rollback are those of the policy.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Literal

from burnish.feedback.contract import CANARY_PREFIX
from burnish.feedback.ranges import Label, Line, Positive
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.errors import ApiError
from burnish.serving.api.json_body import Route
from burnish.serving.api.routes.policies import find_policy, registry_call
from burnish.serving.api.service import Service, service_of
from burnish.serving.registry import LARGEST_SHARE, Canary
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from redis.exceptions import RedisError

FIRST_SHARE = 0.05  # of a canary that a person begins and says no share of


class CanaryChange(BaseModel):
    """`begin` needs a version, `ramp` a share; `begin` may have one."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["begin", "ramp", "pause", "resume", "withdraw"]
    version: Positive | None = None
    share: Annotated[float, Field(gt=0, le=LARGEST_SHARE, allow_inf_nan=False)] | None = None
    why: Line = ""  # for the audit log

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> CanaryChange:
        if (self.version is not None) != (self.action == "begin"):
            raise ValueError("version goes with begin, which needs it")
        if self.action == "ramp" and self.share is None:
            raise ValueError("ramp needs share")
        if self.share is not None and self.action not in ("begin", "ramp"):
            raise ValueError("share goes with begin and ramp")
        return self


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1/policies", tags=["policies"], route_class=Route)
    reader, mover = Depends(auth.require()), Depends(auth.require("admin"))

    @api.get("/{name}/canary")
    async def canary(request: Request, name: Label, _: Principal = reader) -> dict[str, Any]:
        """The canary that runs, or the last one as it ended; `says` is a sentence."""
        service = service_of(request)
        find_policy(service, name)
        return await _shown(service, name)

    @api.post("/{name}/canary")
    async def change(
        request: Request, name: Label, body: CanaryChange, who: Principal = mover
    ) -> dict[str, Any]:
        service = service_of(request)
        find_policy(service, name)
        await registry_call(lambda: _change(service, name, body, who.actor))
        await service.policies.poll(canaries=True)
        return await _shown(service, name)

    return api


def _change(service: Service, name: str, body: CanaryChange, who: str) -> None:
    canaries = service.registry.canaries
    match body.action:
        case "begin":
            version = body.version or 0
            service.registry.get(name, version)  # raises UnknownVersion before anything moves
            if version == service.registry.champion_version(name):
                message = f"{name}@{version} is the champion: it answers everybody already."
                raise ApiError(409, message, param="version", code="is_champion")
            canaries.begin(name, version, body.share or FIRST_SHARE, who=who, why=body.why)
        case "ramp":
            canaries.ramp(name, body.share or 0.0, who=who, why=body.why)
        case "pause":
            canaries.pause(name, who=who, why=body.why)
        case "resume":
            canaries.resume(name, who=who, why=body.why)
        case "withdraw":
            canaries.withdraw(name, who=who, why=body.why)


async def _shown(service: Service, name: str) -> dict[str, Any]:
    runs: Canary | None = await registry_call(service.registry.canaries.of, name)
    told = await _told(service, name)
    if runs is None:
        over = told if told and told.get("state") != "running" else None
        says = over["says"] if over else f"no version of '{name}' is tried on a share of users"
        return {"object": "canary", "policy": name, "running": None, "says": says, "last": over}
    ours = told if told and told.get("started_at") == runs.started_at else None
    led = "the learner has not looked at it yet; it does with BURNISH_PROMOTES=challenger"
    return {
        "object": "canary",
        "policy": name,
        "running": {name: value for name, value in asdict(runs).items() if name != "salt"},
        "says": ours["says"] if ours else led,
        "last": ours,
    }


async def _told(service: Service, name: str) -> dict[str, Any] | None:
    """What the learner left; None without it, or while Redis is away."""
    redis: Any = service.redis
    try:
        found = await redis.get(CANARY_PREFIX + name)
    except RedisError:
        return None
    return None if found is None else json.loads(found)
