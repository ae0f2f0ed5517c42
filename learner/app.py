"""The learner's Celery app: what runs when, and on what terms.

    celery -A burnish.learner.app worker -Q intake      takes events in
    celery -A burnish.learner.app worker -Q reward      publishes what judgements say, for serving; looks for alarms
    celery -A burnish.learner.app worker -Q update      updates policies and the compactor
    celery -A burnish.learner.app beat                  sends the ticks

A tick may be delivered twice, or die halfway: leases, fencing tokens and transactions make that
harmless, so here everything is set to deliver again rather than to lose. Ticks expire before the
next one is due, so a worker that was away does not find a pile of them. Left out: results; what a
tick did is told by ticks.py.

Beat needs no more than this module, so that it is back soon after it ended: what a tick does is in
work.py, imported by the process that does it.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from burnish.feedback.contract import (
    ALARMS_TASK,
    CANARY_TASK,
    CELERY_PREFIX,
    COMPACTOR_TASK,
    ERASE_TASK,
    FREE_TASK,
    INTAKE_QUEUE,
    INTAKE_TASK,
    JOBS_TASK,
    RELEASE_TASK,
    RETENTION_TASK,
    REWARD_QUEUE,
    REWARD_TASK,
    SHADOW_TASK,
    SILENCE_TASK,
    UPDATE_QUEUE,
    UPDATE_TASK,
)
from burnish.feedback.redis_clients import broker_of
from burnish.feedback.telemetry.logs import format_logs
from burnish.learner.broker import PatientAMQP
from burnish.learner.settings import LONG_REST_SECONDS, LearnerSettings
from celery import Celery
from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    beat_init,
    worker_init,
)

# A tick that takes this much longer than its budget hangs; on a crowded machine all else is slow.
GRACE_SECONDS = 1800
RETENTION_EVERY = 600.0  # seconds
ERASE_EVERY = 30.0  # for what was not asked for in time
RELEASE_EVERY = 60.0
JOBS_EVERY = 10.0  # seconds
SHADOW_EVERY = 30.0
ALARMS_EVERY = 60.0
JOB_TASKS_PER_CHILD = 1000


def make_app(settings: LearnerSettings) -> Celery:
    """A Celery app on the settings' Redis, JSON only."""
    broker, transport = broker_of(settings.broker)
    made = Celery("burnish.learner", broker=broker, amqp=PatientAMQP)
    # Redis hands a task out again after the visibility timeout; a tick is done, or killed, before.
    longest = GRACE_SECONDS + 4 * settings.training_seconds
    made.conf.update(
        burnish_redis_url=settings.redis_url,  # for beat, which keeps its times there
        broker_transport_options={
            **transport,
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
            **{
                task: {"queue": INTAKE_QUEUE}
                for task in (INTAKE_TASK, ERASE_TASK, SILENCE_TASK, FREE_TASK, CANARY_TASK)
            },
            **{task: {"queue": REWARD_QUEUE} for task in (REWARD_TASK, ALARMS_TASK)},
            **{
                task: {"queue": UPDATE_QUEUE}
                for task in (
                    UPDATE_TASK,
                    COMPACTOR_TASK,
                    RETENTION_TASK,
                    RELEASE_TASK,
                    SHADOW_TASK,
                )
            },
        },
        worker_prefetch_multiplier=1,
        worker_pool="prefork",
        # A forked child would inherit torch's locked threads.
        worker_pool_start_method="spawn",
        # A spawned child imports torch first; on a busy machine that outlasts the default 4 s, and
        # the pool would kill and respawn it for ever.
        worker_proc_alive_timeout=120.0,
        worker_max_tasks_per_child=_tasks_per_child(settings),
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
            **(_rewards(settings) if settings.reward_every else {}),
            **(_canaries(settings) if settings.promotes_to == "challenger" else {}),
            **{
                f"alarms {policy}": {
                    "task": ALARMS_TASK,
                    "args": [policy],
                    "schedule": ALARMS_EVERY,
                    "options": {"expires": ALARMS_EVERY, "queue": REWARD_QUEUE},
                }
                for policy in settings.policies
            },
            **({"retention": _retention()} if settings.forgets else {}),
            "erase": {
                "task": ERASE_TASK,
                "schedule": ERASE_EVERY,
                "options": {"expires": ERASE_EVERY, "queue": INTAKE_QUEUE},
            },
            "release": {
                "task": RELEASE_TASK,
                "schedule": RELEASE_EVERY,
                "options": {"expires": RELEASE_EVERY, "queue": UPDATE_QUEUE},
            },
            **({"jobs": _jobs()} if settings.updates_run_in != "worker" else {}),
        },
    )
    return made


def _tasks_per_child(settings: LearnerSettings) -> int | None:
    """What a tick loads takes a few seconds to load and up to gigabytes to keep; what only looks after jobs
    keeps next to nothing, and a new process every ten seconds would cost more."""
    if settings.updates_run_in != "worker":
        return JOB_TASKS_PER_CHILD
    return 1 if settings.update_every >= LONG_REST_SECONDS else None


def _rewards(settings: LearnerSettings) -> dict[str, Any]:
    return {
        f"reward {policy}": {
            "task": REWARD_TASK,
            "args": [policy],
            "schedule": settings.reward_every,
            "options": {"expires": settings.reward_every, "queue": REWARD_QUEUE},
        }
        for policy in settings.policies
    }


def _canaries(settings: LearnerSettings) -> dict[str, Any]:
    """Beside the intake, whose worker is never held up for minutes: what harms is withdrawn at once. Shadows
    wait for updates, and are only there if a file asks for them."""
    shadows = {
        f"shadow {policy}": {
            "task": SHADOW_TASK,
            "args": [policy],
            "schedule": SHADOW_EVERY,
            "options": {"expires": SHADOW_EVERY, "queue": UPDATE_QUEUE},
        }
        for policy in (settings.policies if settings.canary_settings else ())
    }
    return shadows | {
        f"canary {policy}": {
            "task": CANARY_TASK,
            "args": [policy],
            "schedule": settings.canary_every,
            "options": {"expires": settings.canary_every, "queue": INTAKE_QUEUE},
        }
        for policy in settings.policies
    }


def _retention() -> dict[str, Any]:
    return {
        "task": RETENTION_TASK,
        "schedule": RETENTION_EVERY,
        "options": {"expires": RETENTION_EVERY, "queue": UPDATE_QUEUE},
    }


def _jobs() -> dict[str, Any]:
    return {
        "task": JOBS_TASK,
        "schedule": JOBS_EVERY,
        "options": {"expires": JOBS_EVERY, "queue": UPDATE_QUEUE},
    }


settings = LearnerSettings()
app = make_app(settings)


@after_setup_logger.connect
@after_setup_task_logger.connect
def format_lines(logger: logging.Logger, **_: object) -> None:
    format_logs(settings, logger)


@worker_init.connect
@beat_init.connect
def keep_private(**_: object) -> None:
    """Before the first tick: a folder to work in, for its owner alone."""
    os.umask(0o077)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)


@worker_init.connect
def prepare(**_: object) -> None:
    """Before the first tick: tables to write to."""
    from burnish.learner import work

    work.database().migrate()


@app.task(name=INTAKE_TASK)
def intake() -> str | None:
    from burnish.learner import work

    return work.intake()


@app.task(name=REWARD_TASK)
def reward(policy: str = "default") -> str:
    from burnish.learner import work

    return work.reward(policy)


@app.task(name=ALARMS_TASK)
def alarms(policy: str = "default") -> str:
    from burnish.learner import work

    return work.alarms(policy)


@app.task(name=SILENCE_TASK)
def silence(alarm: str, until: float, who: str, why: str) -> bool:
    """`until` in seconds since the epoch."""
    from burnish.learner import work

    return work.silence(alarm, until, who, why)


@app.task(name=FREE_TASK)
def free(tenant: str, person: str, key_id: str | None, until: float, who: str, why: str) -> None:
    """`person` is a pseudonym; `until` in seconds since the epoch."""
    from burnish.learner import work

    work.free(tenant, person, key_id, until, who, why)


@app.task(name=UPDATE_TASK)
def update(policy: str = "default") -> str | None:
    from burnish.learner import work

    return work.update(policy)


@app.task(name=CANARY_TASK)
def canary(policy: str = "default") -> str | None:
    from burnish.learner import work

    return work.canary(policy)


@app.task(name=SHADOW_TASK)
def shadow(policy: str = "default") -> str | None:
    from burnish.learner import work

    return work.shadow(policy)


@app.task(name=JOBS_TASK)
def jobs() -> str | None:
    from burnish.learner import work

    return work.look_after_jobs()


@app.task(name=COMPACTOR_TASK)
def compactor() -> str | None:
    from burnish.learner import work

    return work.compactor()


@app.task(name=RETENTION_TASK)
def retention() -> str | None:
    from burnish.learner import work

    return work.retention()


@app.task(name=ERASE_TASK)
def erase(counted: str | None = None) -> int:
    """`counted`: the id of a dry run."""
    from burnish.learner import work

    return work.erase(counted)


@app.task(name=RELEASE_TASK)
def release() -> int:
    from burnish.learner import work

    return work.release()
