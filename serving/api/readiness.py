"""Whether this process can answer, and what does not go on as it should: problems, a sentence each.

Ready means that an answer can be given, and recorded while there is room (routes/health.py). Each problem
belongs to a part of the service (`part_of`) and comes with what to do about it (`advice`). Left out: what
a standing watch would tell, which is Prometheus' work (ops/observe).
"""

from __future__ import annotations

import time
from typing import Any

from burnish.feedback.errors import DiskFull, FeedbackError
from burnish.serving.api.intake import intake_problem
from burnish.serving.api.service import LOOK_PATIENCE_S, Service
from redis.exceptions import RedisError

CLOCKS_APART_S = 5.0

# By how a problem begins: the part it is of, and what to do about it.
_PARTS = (
    ("engine", "engine", "Start the server again, or take it out of BURNISH_ENGINE_URL."),
    ("the spool is full", "spool", "Bring the stream back: the spool empties by itself. BURNISH_SPOOL_MAX_MB is its limit."),
    ("spool", "spool", "See the disk and the log of serving; `burnish repair` checks the file while the service is stopped."),
    ("the spool", "spool", "See the disk and the log of serving; `burnish repair` checks the file while the service is stopped."),
    ("disk", "disk", "Free some space, or move BURNISH_DATA_DIR; everything goes on by itself."),
    ("stream", "stream", "Bring the stream (Kafka, or Redis) back; what was acknowledged waits in the spool."),
    ("redis", "Redis", "Start the Redis of BURNISH_REDIS_URL again; chat goes on without memory meanwhile."),
    ("clock", "Redis", "Keep the clocks of all machines in step (NTP)."),
    ("learner", "worker", "Start the learner's worker and beat again: `burnish status` shows what runs, its log why it ended."),
    ("polic", "registry", "See `burnish status`; `burnish rollback` puts the version before back."),
    ("reward", "registry", "The next update publishes a reward model anew; the first answer is given meanwhile."),
    ("feedback", "Redis", "Bring the Redis of BURNISH_REDIS_URL back: replicas share votes and budgets by it."),
    ("budgets", "Redis", "Bring the Redis of BURNISH_REDIS_URL back: replicas share votes and budgets by it."),
    ("draining", "service", "It is about to end, as it was told to."),
)  # fmt: skip
PARTS = ("service", "engine", "spool", "disk", "stream", "Redis", "registry", "worker")


def status_of(blocking: list[str], degraded: list[str]) -> str:
    return "not ready" if blocking else "degraded" if degraded else "ok"


def part_of(problem: str) -> str:
    return next((part for start, part, _ in _PARTS if problem.startswith(start)), "service")


def advice(problem: str) -> str:
    """What to do about a problem."""
    found = (what for start, _, what in _PARTS if problem.startswith(start))
    return next(
        found,
        "See the log of serving; a restart of the process (`burnish up` does it) often helps.",
    )


async def blocking(service: Service) -> list[str]:
    """Why no answer can be given; nothing, where one can."""
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


async def degraded(service: Service) -> list[str]:
    """What does not go on as it should while answers are given."""
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
