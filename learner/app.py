"""The learner's Celery app: what runs when, and on what terms.

    celery -A burnish.learner.app worker      works off both queues
    celery -A burnish.learner.app beat        sends the ticks

A tick may be delivered twice, or die halfway: leases, fencing tokens and transactions make that
harmless, so here everything is set to deliver again rather than to lose. Ticks expire before the
next one is due, so a worker that was away does not find a pile of them. Left out: results; what a
tick did is told by ticks.py.
"""

from __future__ import annotations

import logging
import os
import time
from functools import cache
from typing import TYPE_CHECKING

import redis
from burnish.feedback.contract import (
    CELERY_PREFIX,
    COMPACTOR_TASK,
    INTAKE_KEY,
    INTAKE_QUEUE,
    INTAKE_TASK,
    UPDATE_QUEUE,
    UPDATE_TASK,
)
from burnish.feedback.masking import mask_logs, masked
from burnish.feedback.stream.event_stream import EventStream, open_stream
from burnish.learner.broker import PatientAMQP
from burnish.learner.database import Database
from burnish.learner.intake.consume import consume
from burnish.learner.intake.unmatched import tell
from burnish.learner.lease import Lease, LeaseHeld
from burnish.learner.settings import LearnerSettings
from burnish.learner.ticks import Tick, publish, publish_intake
from celery import Celery
from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    beat_init,
    worker_init,
)

if TYPE_CHECKING:
    from burnish.learner.update.tick import Learner

log = logging.getLogger(__name__)

# A tick that takes this much longer than its budget hangs; on a crowded machine all else is slow.
GRACE_SECONDS = 1800
# How long the intake rests after one that died, or that could not give its lease back to a Redis that
# was away.
INTAKE_LEASE_SECONDS = 4.0


def make_app(settings: LearnerSettings) -> Celery:
    """A Celery app on the settings' Redis, JSON only."""
    made = Celery("burnish.learner", broker=settings.redis_url, amqp=PatientAMQP)
    # Redis hands a task out again after the visibility timeout; a tick is done, or killed, before.
    longest = GRACE_SECONDS + 4 * settings.update_seconds
    made.conf.update(
        broker_transport_options={
            "global_keyprefix": CELERY_PREFIX,
            "visibility_timeout": longest + 600,
            # A server that hangs must look like one that is down.
            "socket_timeout": 10,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2,
        task_publish_retry=False,
        worker_enable_remote_control=False,
        beat_enable_remote_control=False,
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_time_limit=longest,
        task_default_queue=UPDATE_QUEUE,
        task_routes={
            INTAKE_TASK: {"queue": INTAKE_QUEUE},
            **{task: {"queue": UPDATE_QUEUE} for task in (UPDATE_TASK, COMPACTOR_TASK)},
        },
        worker_prefetch_multiplier=1,
        worker_pool="prefork",
        # A forked child would inherit torch's locked threads.
        worker_pool_start_method="spawn",
        # A spawned child imports torch first; on a busy machine that outlasts the default 4 s, and
        # the pool would kill and respawn it for ever.
        worker_proc_alive_timeout=120.0,
        worker_soft_shutdown_timeout=5.0,
        worker_enable_soft_shutdown_on_idle=False,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        beat_scheduler="burnish.learner.beat:RedisScheduler",
        beat_max_loop_interval=1.0,
        beat_sync_every=1,
        beat_schedule={
            "intake": {
                "task": INTAKE_TASK,
                "schedule": settings.intake_every,
                "options": {"expires": settings.intake_every, "queue": INTAKE_QUEUE},
            },
            "compactor": {
                "task": COMPACTOR_TASK,
                "schedule": settings.update_every,
                "options": {"expires": settings.update_every, "queue": UPDATE_QUEUE},
            },
            **{
                f"update {policy}": {
                    "task": UPDATE_TASK,
                    "args": [policy],
                    "schedule": settings.update_every,
                    "options": {"expires": settings.update_every, "queue": UPDATE_QUEUE},
                }
                for policy in settings.policies
            },
        },
    )
    return made


@cache
def settings() -> LearnerSettings:
    return LearnerSettings()


app = make_app(settings())


@after_setup_logger.connect
@after_setup_task_logger.connect
def mask(logger: logging.Logger, **_: object) -> None:
    mask_logs(logger)


@worker_init.connect
@beat_init.connect
def prepare(**_: object) -> None:
    """Before the first tick: a folder to work in and tables to write to, for its owner alone."""
    os.umask(0o077)
    settings().data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database().migrate()


@cache
def database() -> Database:
    return Database(settings().database)


@cache
def stream() -> EventStream:
    made = open_stream(settings())
    made.ensure_topics()
    return made


@cache
def client() -> redis.Redis:
    return redis.Redis.from_url(
        settings().redis_url, socket_timeout=10, socket_connect_timeout=2, socket_keepalive=True
    )


@app.task(name=INTAKE_TASK)
def intake() -> str | None:
    """Consume what the stream has; returns the tick's sentence."""
    seconds = min(settings().lease_seconds, INTAKE_LEASE_SECONDS)
    lease = Lease(client(), "intake", seconds, database=database())
    try:
        with lease:
            tick = consume(database(), stream(), lease)
            client().set(INTAKE_KEY, time.time())
            with database().read() as session:
                tell(session, client(), time.time() - settings().unmatched_after)
    except LeaseHeld:
        return None
    if tick is not None:
        publish_intake(client(), tick)
    return tick.did if tick else None


@app.task(name=UPDATE_TASK)
def update(policy: str = "default") -> str | None:
    """One update of one policy; returns the tick's sentence."""
    began = time.monotonic()
    try:
        tick = learner().tick(policy)
    except Exception as error:
        # This is the process's top loop: people must read why nothing trained.
        log.exception("the update of %s failed", policy)
        seconds = round(time.monotonic() - began, 3)
        why = masked(f"{type(error).__name__}: {error}")
        publish(client(), Tick("update", policy, "failed", why, seconds=seconds))
        raise
    if tick is not None and time.monotonic() - began > settings().update_every:
        # It overran its interval, and beat's tick found the lease held: do not wait for the next.
        expires = settings().update_every
        app.send_task(UPDATE_TASK, [policy], queue=UPDATE_QUEUE, expires=expires)
    return tick.did if tick else None


@app.task(name=COMPACTOR_TASK)
def compactor() -> str | None:
    """One update of the memory's compaction policy; returns the tick's sentence."""
    from burnish.learner.compactor import online

    try:
        tick = online.update_compactor(settings(), database())
    except Exception as error:
        # This is the process's top loop: people must read why nothing trained.
        log.exception("the update of the compactor failed")
        why = masked(f"{type(error).__name__}: {error}")
        publish(client(), Tick("update", "compactor", "failed", why))
        raise
    return tick.did if tick else None


@cache
def learner() -> Learner:
    from burnish.learner.update.tick import Learner  # torch: only in a process that trains

    return Learner(settings(), database())
