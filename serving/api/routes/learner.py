"""/v1/learner: what the learner did or why it did not, whether that helps, and a way to ask for an update.

The learner is other processes: its ticks and reports are read from Redis, a task is sent by its name.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from burnish.feedback.contract import (
    CELERY_PREFIX,
    REPORT_PREFIX,
    UNMATCHED_KEY,
    UPDATE_QUEUE,
    UPDATE_TASK,
)
from burnish.feedback.ranges import Label
from burnish.feedback.redis_clients import broker_of
from burnish.feedback.settings import StreamSettings
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.errors import ApiError
from burnish.serving.api.intake import intake_problem
from burnish.serving.api.json_body import Route
from burnish.serving.api.learner_events import learner_events
from burnish.serving.api.learner_tasks import send
from burnish.serving.api.service import Service, service_of
from burnish.serving.api.ticks import latest_ticks
from celery import Celery
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from redis.exceptions import RedisError

NO_STORE = {"Cache-Control": "no-store"}


class UpdateRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    policy: Label = "default"


def celery_client(redis_url: str) -> Celery:
    """Only sends. A broker that cannot be reached is reported within seconds, not retried."""
    broker, transport = broker_of(StreamSettings(redis_url=redis_url).broker)
    client = Celery("burnish.serving", broker=broker, set_as_current=False)
    client.conf.update(
        broker_transport_options={
            **transport,
            "global_keyprefix": CELERY_PREFIX,
            "socket_connect_timeout": 2,
            "socket_timeout": 5,
            "retry_on_timeout": False,
        },
        broker_connection_timeout=2,
        task_ignore_result=True,
        task_publish_retry=False,
        task_serializer="json",
    )
    return client


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1/learner", tags=["learner"], route_class=Route)
    reader, caller = Depends(auth.require()), Depends(auth.require("admin"))

    @api.get("")
    async def ticks(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        _: Principal = reader,
    ) -> dict[str, Any]:
        """Newest first. `available` is false while Redis, and with it the learner, is away.

        `unmatched`, where there are some, counts judgements that have met no answer for a while;
        `problem` says that the intake is behind.
        """
        redis: Any = service_of(request).redis
        try:
            listed = await latest_ticks(redis, limit)
            unmatched = await redis.hlen(UNMATCHED_KEY)
            problem = await intake_problem(redis)
        except RedisError as error:
            why = f"the ticks cannot be read, Redis does not answer: {error}"
            return {"available": False, "why": why, "ticks": []}
        why = None if listed else "the learner has not run yet"
        told: dict[str, Any] = {"unmatched": unmatched} if unmatched else {}
        told |= {"problem": problem} if problem else {}
        return {"available": True, "why": why, "ticks": listed, **told}

    @api.get("/report")
    async def report(
        request: Request, policy: Label = "default", _: Principal = reader
    ) -> dict[str, Any]:
        """Whether a policy learns, as of the learner's last update tick: what people's votes say of each
        version, and what would help most (`report`). Where there is none, `why` says so.
        """
        service = service_of(request)
        _check_policy(service, policy)
        redis: Any = service.redis
        try:
            found = await redis.get(REPORT_PREFIX + policy)
        except RedisError as error:
            why = f"the report cannot be read, Redis does not answer: {error}"
            return {"available": False, "why": why, "report": None}
        if found is None:
            why = (
                f"the learner has made no report on '{policy}' yet; it does after each update tick"
            )
            return {"available": False, "why": why, "report": None}
        return {"available": True, "why": None, "report": json.loads(found)}

    @api.get("/events", response_class=StreamingResponse)
    async def events(request: Request, _: Principal = reader) -> StreamingResponse:
        """Server-sent events from now on: `tick`, with each new tick of the learner; `policies`, with which
        versions serve, at first and whenever that changes."""
        stream = learner_events(service_of(request))
        return StreamingResponse(stream, media_type="text/event-stream", headers=NO_STORE)

    @api.post("/update", status_code=202)
    async def update(
        request: Request, body: UpdateRequest | None = None, _: Principal = caller
    ) -> dict[str, Any]:
        """Ask for an update tick now. It may find nothing to do; its tick says so."""
        sent = await send(request, UPDATE_TASK, [(body or UpdateRequest()).policy], UPDATE_QUEUE)
        return {"id": sent, "task": UPDATE_TASK}

    return api


def _check_policy(service: Service, policy: str) -> None:
    if all(state.policy != policy for state in service.policies.status()):
        message = f"There is no policy '{policy}'. GET /v1/policies lists them."
        raise ApiError(404, message, param="policy", code="policy_not_found")
