"""GET /v1/models: the policies, under the names that `model` takes.

The list names each policy once; a version can be asked for by `policy@version` all the same.
"""

from __future__ import annotations

from typing import Any

from burnish.feedback.ranges import Label
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.errors import ApiError
from burnish.serving.api.json_body import Route
from burnish.serving.api.service import Service, service_of
from burnish.serving.live import ServedVersion, UnknownModel, VersionUnavailable
from fastapi import APIRouter, Depends, Request


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1/models", tags=["models"], route_class=Route)
    caller = Depends(auth.require())

    @api.get("")
    async def models(request: Request, _: Principal = caller) -> dict[str, Any]:
        service = service_of(request)
        data = [_model(service, served.policy, served) for served in service.policies.models()]
        return {"object": "list", "data": data}

    @api.get("/{model:path}")
    async def model(request: Request, model: Label, _: Principal = caller) -> dict[str, Any]:
        service = service_of(request)
        try:
            lease = await service.policies.acquire(model)
        except (UnknownModel, VersionUnavailable) as error:
            message = f"The model '{model}' does not exist."
            raise ApiError(404, message, param="model", code="model_not_found") from error
        lease.release()
        return _model(service, model, ServedVersion(lease.policy, lease.version, lease.adapter))

    return api


def _model(service: Service, name: str, served: ServedVersion) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(service.started_at),
        "owned_by": "burnish",
        "version": served.version,
        "max_model_len": service.engine.max_model_len,
        "weights": service.engine.weights,
    }
