"""/v1/erase: an end user's data out of every store, and, by a rebuild from the base, out of the weights.

It takes the scope "admin", and is about end users of the key's own tenant. 202 means that it is under way, and will be
carried out whatever ends meanwhile; the receipt says how far it is. Left out: the work (erasing.py, and the learner's).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import kombu.exceptions
from burnish.feedback.contract import ERASE_TASK, INTAKE_KEY, INTAKE_QUEUE
from burnish.feedback.errors import FeedbackError
from burnish.feedback.ranges import Label, Line
from burnish.memory import StoreError
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.errors import ApiError
from burnish.serving.api.intake import BEHIND_S
from burnish.serving.api.json_body import Route
from burnish.serving.api.service import Service, service_of
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

LEARNER_S = 30.0  # that a dry run waits for the learner
_ASK_S = 0.1


class EraseRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user: Label = Field(min_length=1)
    dry_run: bool = False
    why: Line = ""  # for the audit log


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1/erase", tags=["erase"], route_class=Route)
    admin = Depends(auth.require("admin"))

    @api.post("", status_code=202, responses={200: {"description": "What a dry run found"}})
    async def erase(
        body: EraseRequest, request: Request, response: Response, who: Principal = admin
    ) -> dict[str, Any]:
        """With `dry_run` only what would go, where and how much, and which versions saw it."""
        service = service_of(request)
        if body.dry_run:
            await _check_learner(service)
        try:
            erasure = await asyncio.to_thread(
                lambda: service.eraser.erasures.request(
                    who.tenant, body.user, by=who.actor, dry_run=body.dry_run
                )
            )
            if body.dry_run:
                response.status_code = 200
                await service.eraser.count(erasure)
                return await _counted(service, request.app.state.celery, erasure.id)
        except (RedisError, FeedbackError, StoreError) as error:
            message = f"Nothing was erased, the stores do not answer: {error}"
            raise ApiError(503, message, code="store_unavailable", retry_after=5) from error
        about = {"tenant": who.tenant, "person": erasure.person}
        try:
            await asyncio.to_thread(
                service.audit.append, who.actor, "erase", erasure.id, body.why, about
            )
        except OSError as error:
            log.error("the audit log does not take '%s': %s", erasure.id, error)
        try:
            erasure = await service.eraser.carry_out(erasure) or erasure
            await asyncio.to_thread(_ask_learner, request.app.state.celery)
        except (RedisError, FeedbackError, StoreError, _NoQueue) as error:
            log.warning("%s goes on later: %s", erasure.id, error)
        return erasure.told()

    @api.get("/{erasure_id}")
    async def receipt(
        request: Request, erasure_id: Label, who: Principal = admin
    ) -> dict[str, Any]:
        """What was removed where, and which versions held it; whole once `state` is `finished`."""
        found = await _erasure(service_of(request), erasure_id)
        if found is None or found.tenant != who.tenant:
            message = f"There is no erasure '{erasure_id}'."
            raise ApiError(404, message, param="erasure_id", code="erasure_not_found")
        return found.told()

    return api


class _NoQueue(Exception):
    pass


def _ask_learner(celery: Any, *args: str) -> None:
    """Its own tick would do it later. Raises _NoQueue."""
    try:
        celery.send_task(ERASE_TASK, list(args), queue=INTAKE_QUEUE, retry=False)
    except (kombu.exceptions.OperationalError, RedisError, OSError) as error:
        raise _NoQueue(str(error)) from error


async def _check_learner(service: Service) -> None:
    """A dry run needs it now; what is really erased can wait for it. Raises ApiError."""
    redis: Any = service.redis
    try:
        looked = await redis.get(INTAKE_KEY)
    except RedisError as error:
        message = f"Nothing can be counted, Redis does not answer: {error}"
        raise ApiError(503, message, code="store_unavailable", retry_after=5) from error
    if looked is None or time.time() - float(looked) > BEHIND_S:
        message = (
            "The learner's intake does not run, and its database holds most of what would go. Start it, or"
            " erase without dry_run: the learner does its part once it is there."
        )
        raise ApiError(503, message, code="learner_unavailable", retry_after=30)


async def _counted(service: Service, celery: Any, id: str) -> dict[str, Any]:
    """The dry run with what the learner's database holds."""
    try:
        await asyncio.to_thread(_ask_learner, celery, id)
    except _NoQueue as error:
        message = f"The learner cannot be asked, its queue does not answer: {error}"
        raise ApiError(503, message, code="learner_unavailable", retry_after=5) from error
    patience = time.monotonic() + LEARNER_S
    while time.monotonic() < patience:
        found = await _erasure(service, id)
        if found is not None and found.state == "finished":
            return found.told()
        await asyncio.sleep(_ASK_S)
    message = f"The learner's intake has not answered within {LEARNER_S:.0f} s; is it running?"
    raise ApiError(503, message, code="learner_unavailable", retry_after=30)


async def _erasure(service: Service, id: str) -> Any:
    try:
        return await asyncio.to_thread(service.eraser.erasures.get, id)
    except RedisError as error:
        message = f"The receipt cannot be read, Redis does not answer: {error}"
        raise ApiError(503, message, code="store_unavailable", retry_after=5) from error
