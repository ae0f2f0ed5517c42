"""/v1/operations: how the service is, for whoever looks after it (scope "admin").

Health of each part, what is degraded and what to do about it, queue and tokens, latency histograms, staleness;
and the last lines of the logs in the data folder. Rates are for the reader to take from two readings: counters
are told as they stand. Left out: histories, which Prometheus keeps (ops/observe).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from burnish.feedback.contract import INTAKE_KEY, TICKS_KEY
from burnish.feedback.masking import masked
from burnish.feedback.ranges import Label
from burnish.serving.api import readiness
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.errors import ApiError
from burnish.serving.api.json_body import Route
from burnish.serving.api.service import Service, service_of
from fastapi import APIRouter, Depends, Query, Request
from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Histogram
from redis.exceptions import RedisError

LONGEST_TAIL = 256 * 1024  # bytes of a log that are read
TICKS = 50


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1/operations", tags=["operations"], route_class=Route)
    admin = Depends(auth.require("admin"))

    @api.get("")
    async def operations(request: Request, _: Principal = admin) -> dict[str, Any]:
        service = service_of(request)
        blocking, degraded = await readiness.blocking(service), await readiness.degraded(service)
        problems = [
            {
                "part": readiness.part_of(problem),
                "says": problem,
                "do": readiness.advice(problem),
                "blocks": problem in blocking,
            }
            for problem in (*blocking, *degraded)
        ]
        return {
            "at": time.time(),
            "started_at": service.started_at,
            "status": readiness.status_of(blocking, degraded),
            "parts": _parts(problems),
            "problems": problems,
            "learner": await _learner(service),
            **_figures(service),
        }

    @api.get("/logs")
    async def logs(
        request: Request,
        name: Label | None = None,
        lines: Annotated[int, Query(ge=1, le=1000)] = 100,
        _: Principal = admin,
    ) -> dict[str, Any]:
        """Which logs there are; with `name` the last lines of one, without passwords and keys."""
        folder = service_of(request).settings.data_dir / "logs"
        found = await asyncio.to_thread(_logs, folder)
        if name is None:
            return {"logs": sorted(found), "name": None, "lines": []}
        if name not in found:  # names are looked up, never opened as they come
            message = f"There is no log '{name}' here."
            raise ApiError(404, message, param="name", code="log_not_found")
        tail = await asyncio.to_thread(_tail, found[name], lines)
        return {"logs": sorted(found), "name": name, "lines": tail}

    return api


def _parts(problems: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Each part of the service: ok, degraded, or failed."""
    states = dict.fromkeys(readiness.PARTS, "ok")
    for problem in problems:
        if problem["blocks"]:
            states[problem["part"]] = "failed"
        elif states[problem["part"]] == "ok":
            states[problem["part"]] = "degraded"
    return [{"part": part, "state": state} for part, state in states.items()]


def _figures(service: Service) -> dict[str, Any]:
    stats = asdict(service.engine.stats())
    shown = service.metrics
    return {
        "engine": {name: value for name, value in stats.items() if isinstance(value, int)},
        "servers": stats["servers"],
        "spool": {
            "events": service.spool.waiting(),
            "bytes": service.spool.waiting_bytes(),
            "limit_bytes": service.spool.max_bytes,
            "lag": service.stream_lag,
        },
        "disk": {"free_bytes": service.disk.free(), "low_bytes": service.disk.low_bytes},
        "requests": {"in_flight": service.in_flight, "by_status": _by_status(shown.requests)},
        "unrecorded": service.recorder.unrecorded,
        "latency": {
            "first_token": _histogram(shown.first_token),
            "per_token": _histogram(shown.per_token),
            "whole_answer": _histogram(shown.duration),
        },
        "policies": [_policy(service, state.policy) for state in service.policies.status()],
    }


def _policy(service: Service, name: str) -> dict[str, Any]:
    state = next(one for one in service.policies.status() if one.policy == name)
    reward = service.rewards.of(name)
    return {
        "policy": name,
        "champion": state.champion,
        "challenger": state.challenger,
        "previous": state.previous,
        "swaps": state.swaps,
        "swapped_at": state.swapped_at,
        "reward_age_s": reward.age_s if reward else None,
    }


async def _learner(service: Service) -> dict[str, Any]:
    """When the learner's ticks last ran, by kind, and what each did; `available` without Redis is false."""
    redis: Any = service.redis
    try:
        looked = await redis.get(INTAKE_KEY)
        found = [json.loads(tick) for tick in await redis.lrange(TICKS_KEY, 0, TICKS - 1)]
    except RedisError:
        return {"available": False, "intake_at": None, "ticks": []}
    latest = {tick["kind"]: tick for tick in reversed(found)}  # they come newest first
    return {
        "available": True,
        "intake_at": None if looked is None else float(looked),
        "ticks": sorted(latest.values(), key=lambda tick: -tick["at"]),
    }


def _by_status(requests: PrometheusCounter) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for family in requests.collect():
        for sample in family.samples:
            if sample.name.endswith("_total"):
                counts[sample.labels["status"]] += int(sample.value)
    return dict(sorted(counts.items()))


def _histogram(metric: Histogram) -> dict[str, Any]:
    """Over all labels: how many fell into each bucket (`upto` in seconds; None: beyond the last), count and sum."""
    upto: Counter[float] = Counter()
    count, total = 0, 0.0
    for family in metric.collect():
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                upto[float(sample.labels["le"])] += int(sample.value)
            elif sample.name.endswith("_count"):
                count += int(sample.value)
            elif sample.name.endswith("_sum"):
                total += sample.value
    buckets, before = [], 0
    for edge, within in sorted(upto.items()):
        buckets.append({"upto": None if edge == float("inf") else edge, "count": within - before})
        before = within
    return {"count": count, "sum_s": total, "buckets": buckets}


def _logs(folder: Path) -> dict[str, Path]:
    return {file.stem: file for file in folder.glob("*.log") if file.is_file()}


def _tail(file: Path, count: int) -> list[str]:
    """The last whole lines of a file, masked."""
    with file.open("rb") as log:
        size = log.seek(0, 2)
        log.seek(max(0, size - LONGEST_TAIL))
        lines = log.read().decode(errors="replace").splitlines()
    if size > LONGEST_TAIL:
        del lines[0]  # its beginning was not read
    return [masked(line) for line in lines[-count:]]
