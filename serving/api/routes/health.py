"""/healthz, /readyz, /metrics, /version.

Whether the service lives, is ready, and which model it has anybody may ask. Where keys are used,
what is going on in it takes the scope "admin": the figures of all tenants are nobody else's.
Healthy means that no vital part has ended (vitals.py): the process is of use. Ready means that an
answer can be given, and recorded while there is room. A stream, Redis or registry that is away leaves
the service ready and "degraded": the spool holds what the stream cannot take. So does a vLLM server that
is away while another is not, and a disk that runs short: answers are given, and counted as unrecorded
once it is full.
"""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version as installed
from typing import Any

from burnish.serving.api import readiness
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.json_body import Route
from burnish.serving.api.service import Service, service_of
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError


def router(auth: Auth) -> APIRouter:
    api = APIRouter(tags=["health"], route_class=Route)

    @api.get("/healthz")
    async def healthz(request: Request) -> JSONResponse:
        if ended := service_of(request).vitals.ended():
            return JSONResponse({"status": "failed", "problems": ended}, 503)
        return JSONResponse({"status": "ok"})

    @api.get("/readyz")
    async def readyz(request: Request) -> JSONResponse:
        service = service_of(request)
        blocking, degraded = await readiness.blocking(service), await readiness.degraded(service)
        status = readiness.status_of(blocking, degraded)
        content: dict[str, Any] = {"status": status}
        who: Principal | None = request.scope["principal"]
        if who is not None and "admin" in who.scopes:
            content |= _details(service, blocking + degraded)
        return JSONResponse(content, 503 if blocking else 200)

    @api.get("/metrics", dependencies=[Depends(auth.require("admin"))])
    async def metrics(request: Request) -> Response:
        service = service_of(request)
        await _ask_redis(service)
        return Response(_figures(service), media_type=CONTENT_TYPE_LATEST)

    @api.get("/version")
    async def version(request: Request) -> dict[str, Any]:
        service = service_of(request)
        return {
            "burnish": installed("burnish"),
            "model": service.settings.model.name,
            "model_sha256": service.engine.model_sha256,
            "weights": service.engine.weights,
            "kv_cache": service.engine.kv_cache,
            "lossless": service.engine.lossless,
        }

    return api


def _details(service: Service, problems: list[str]) -> dict[str, Any]:
    return {
        "problems": problems,
        "policies": {state.policy: state.champion for state in service.policies.status()},
        "spool": {"events": service.spool.waiting(), "bytes": service.spool.waiting_bytes()},
        "unrecorded": service.recorder.unrecorded,
        "stream": {"lag": service.stream_lag, "error": service.forwarder.last_error},
    }


async def _ask_redis(service: Service) -> None:
    redis: Any = service.redis
    try:
        told = await redis.info("memory")
    except RedisError:
        service.metrics.redis_up.set(0)
        return
    service.metrics.redis_up.set(1)
    # A cluster's answer is by node.
    nodes = [told] if "used_memory" in told else told.values()
    service.metrics.redis_memory.set(sum(node["used_memory"] for node in nodes))


def _figures(service: Service) -> bytes:
    shown = service.metrics
    shown.in_flight.set(service.in_flight)
    shown.disk_free.set(service.disk.free())
    shown.spool_limit.set(service.spool.max_bytes)
    for what, value in asdict(service.engine.stats()).items():
        if isinstance(value, int):
            shown.engine.labels(what).set(value)
    for server in service.engine.stats().servers:
        for what, value in asdict(server).items():
            if isinstance(value, int):
                shown.engine_server.labels(server.address, what).set(value)
    shown.spool_events.set(service.spool.waiting())
    shown.spool_bytes.set(service.spool.waiting_bytes())
    shown.stream_up.set(0 if service.forwarder.last_error else 1)
    for gauge in (shown.reward_votes, shown.reward_age):
        gauge.clear()  # a model may have been withdrawn
    for state in service.policies.status():
        shown.version.labels(state.policy).set(state.champion or 0)
        shown.swaps.labels(state.policy).set(state.swaps)
        shown.canary_share.labels(state.policy).set(state.share)
        if reward := service.rewards.of(state.policy):
            shown.reward_votes.labels(state.policy).set(reward.notice.votes)
            shown.reward_age.labels(state.policy).set(reward.age_s)
    return shown.render()
