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

import time
from dataclasses import asdict
from importlib.metadata import version as installed
from typing import Any

from burnish.feedback.errors import DiskFull, FeedbackError
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.intake import intake_problem
from burnish.serving.api.json_body import Route
from burnish.serving.api.service import LOOK_PATIENCE_S, Service, service_of
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError

CLOCKS_APART_S = 5.0


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
        blocking = await _blocking(service)
        degraded = await _degraded(service)
        status = "not ready" if blocking else "degraded" if degraded else "ok"
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


async def _blocking(service: Service) -> list[str]:
    problems = service.vitals.ended()
    if service.draining:
        problems.append("draining")
    patience = service.started_at + LOOK_PATIENCE_S
    if not service.policies.has_looked and time.time() < patience:
        # What served last serves again, but a champion may have moved while this replica was away.
        problems.append("policies: the aliases are still to be looked at")
    states = {state.policy: state for state in service.policies.status()}
    for name in service.settings.policies:
        state = states.get(name)
        if state is None or state.champion is None:
            why = state.problem if state else None
            problems.append(f"policy {name}: no version is loaded ({why or 'starting'})")
    servers = service.engine.stats().servers
    if servers and not any(server.up for server in servers):
        problems.append("engine: no vLLM server answers")
    try:
        await service.spool.append_many([])  # an empty commit goes the whole way but the fsync
    except DiskFull:
        pass  # which leaves it degraded
    except FeedbackError as error:
        problems.append(f"the spool cannot be written: {error}")
    return problems


async def _degraded(service: Service) -> list[str]:
    problems = []
    if service.disk.is_low():
        problems.append(f"disk: {service.disk}")
    if service.spool.waiting_bytes() >= service.spool.max_bytes:
        problems.append("the spool is full: feedback is refused, answers go unrecorded")
    if service.spool.last_error and not isinstance(service.spool.last_error, DiskFull):
        problems.append(f"spool: {service.spool.last_error}")
    if service.forwarder.last_error:
        problems.append(f"stream: {service.forwarder.last_error}")
    for server in service.engine.stats().servers:
        if server.problem:
            what = "does not do all it should" if server.up else "is away"
            problems.append(f"engine: vLLM server {server.address} {what}: {server.problem}")
    problems += service.not_shared
    states = service.policies.status()
    problems += [f"policy {s.policy}: {s.problem}" for s in states if s.problem and s.champion]
    problems += service.rewards.problems
    redis: Any = service.redis
    try:
        await redis.ping()
        if apart := await _clocks_apart(redis):
            problems.append(apart)
        if behind := await intake_problem(redis):
            problems.append(f"learner: {behind}")
    except RedisError as error:
        problems.append(f"redis: {error} (BURNISH_REDIS_URL; memory and learner status are away)")
    return problems


async def _clocks_apart(redis: Any) -> str | None:
    """Where this machine's clock and that of Redis disagree: one of them is wrong."""
    told = await redis.time()
    servers = told.values() if isinstance(told, dict) else [told]
    ahead = max((time.time() - s - us / 1e6 for s, us in servers), key=abs)
    if abs(ahead) < CLOCKS_APART_S:
        return None
    return (
        f"clock: {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} that of the Redis of"
        " BURNISH_REDIS_URL: of two votes under one id the later one stands, so keep clocks in step (NTP)"
    )


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
