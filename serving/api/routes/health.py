"""/healthz, /readyz, /metrics, /version. No key needed: they tell nothing about anybody.

Ready means that an answer can be given and recorded. A stream, Redis or registry that is away
leaves the service ready and "degraded": the spool holds what the stream cannot take.
"""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version as installed
from typing import Any

from burnish.feedback.errors import FeedbackError
from burnish.serving.api.intake import intake_problem
from burnish.serving.api.service import Service, service_of
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    service = service_of(request)
    blocking = await _blocking(service)
    degraded = await _degraded(service)
    status = "not ready" if blocking else "degraded" if degraded else "ok"
    content = {
        "status": status,
        "problems": blocking + degraded,
        "policies": {state.policy: state.champion for state in service.policies.status()},
        "spool": {"events": service.spool.waiting(), "bytes": service.spool.waiting_bytes()},
        "stream": {"lag": service.stream_lag, "error": service.forwarder.last_error},
    }
    return JSONResponse(content, 503 if blocking else 200)


async def _blocking(service: Service) -> list[str]:
    problems = []
    if service.draining:
        problems.append("draining")
    states = {state.policy: state for state in service.policies.status()}
    for name in service.settings.policies:
        state = states.get(name)
        if state is None or state.champion is None:
            why = state.problem if state else None
            problems.append(f"policy {name}: no version is loaded ({why or 'starting'})")
    if service.spool.waiting_bytes() >= service.spool.max_bytes:
        problems.append("the spool is full")
    try:
        await service.spool.append_many([])  # an empty commit goes the whole way but the fsync
    except FeedbackError as error:
        problems.append(f"the spool cannot be written: {error}")
    return problems


async def _degraded(service: Service) -> list[str]:
    problems = []
    if service.forwarder.last_error:
        problems.append(f"stream: {service.forwarder.last_error}")
    states = service.policies.status()
    problems += [f"policy {s.policy}: {s.problem}" for s in states if s.problem and s.champion]
    redis: Any = service.redis
    try:
        await redis.ping()
        if behind := await intake_problem(redis):
            problems.append(f"learner: {behind}")
    except RedisError as error:
        problems.append(f"redis: {error} (memory and learner status are away)")
    return problems


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    service = service_of(request)
    shown = service.metrics
    stats = service.engine.stats()
    for what, value in asdict(stats).items():
        if isinstance(value, int):
            shown.engine.labels(what).set(value)
    shown.spool_events.set(service.spool.waiting())
    shown.spool_bytes.set(service.spool.waiting_bytes())
    shown.stream_up.set(0 if service.forwarder.last_error else 1)
    for state in service.policies.status():
        shown.version.labels(state.policy).set(state.champion or 0)
        shown.swaps.labels(state.policy).set(state.swaps)
    return Response(shown.render(), media_type=CONTENT_TYPE_LATEST)


@router.get("/version")
async def version(request: Request) -> dict[str, Any]:
    service = service_of(request)
    return {
        "burnish": installed("burnish"),
        "model": service.settings.model.name,
        "model_sha256": service.engine.model_sha256,
    }
