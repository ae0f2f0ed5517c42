"""What the ticks do: take in what arrived, publish reward models, update a policy or the memory's compactor,
erase what is old.

Each returns its tick's sentence. app.py says when; connections are opened once per process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import redis
from burnish.feedback.audit import AuditLog
from burnish.feedback.contract import (
    COMPACTOR,
    INTAKE_KEY,
    REWARD_QUEUE,
    REWARD_TASK,
    UPDATE_QUEUE,
    UPDATE_TASK,
)
from burnish.feedback.erasures import Erasures
from burnish.feedback.masking import masked
from burnish.feedback.redis_clients import open_client
from burnish.feedback.stream.event_stream import EventStream
from burnish.feedback.stream.opening import open_stream
from burnish.feedback.telemetry import tracing
from burnish.feedback.telemetry.trail import Trail
from burnish.learner.database import Database, LearnerError
from burnish.learner.intake import receipts
from burnish.learner.intake.joined import tell_joined
from burnish.learner.intake.sharing import consume_shared
from burnish.learner.intake.unmatched import tell
from burnish.learner.jobs import JobError
from burnish.learner.lease import Lease, LeaseHeld
from burnish.learner.metrics import Metrics, positions
from burnish.learner.settings import LearnerSettings
from burnish.learner.ticks import Tick, publish, publish_intake
from celery import current_app

if TYPE_CHECKING:
    from burnish.learner.alarms.watching import Watch
    from burnish.learner.canary.controller import Controller
    from burnish.learner.jobs.updates import UpdateJobs
    from burnish.learner.update.publishing import RewardPublisher
    from burnish.learner.update.tick import Learner
    from burnish.serving.registry import PolicyRegistry

log = logging.getLogger(__name__)

# How long the intake rests after one that died, or that could not give its lease back to a Redis that
# was away.
INTAKE_LEASE_SECONDS = 4.0
RETENTION_SECONDS = 60.0  # of one tick; updates wait for it


@cache
def settings() -> LearnerSettings:
    return LearnerSettings()


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
    return open_client(
        settings().redis_url, socket_timeout=10, socket_connect_timeout=2, socket_keepalive=True
    )


@cache
def metrics() -> Metrics | None:
    """Answers Prometheus from the first call on; None where the settings name no address."""
    address = settings().metrics_address
    if address is None:
        return None
    made = Metrics(database())
    try:
        made.serve(address)
    except OSError as error:
        log.error("BURNISH_METRICS_ADDRESS=%s: Prometheus is not answered: %s", address, error)
        return None
    return made


@cache
def erasures() -> Erasures:
    return Erasures(settings().redis_url)


@cache
def trail() -> Trail:
    return Trail(settings().redis_url)


def intake() -> str | None:
    """Consume what the stream has; returns the tick's sentence."""
    tracing.start(settings(), "burnish-intake", settings().data_dir)
    shown = metrics()
    seconds = min(settings().lease_seconds, INTAKE_LEASE_SECONDS)

    def lease_of(name: str) -> Lease:
        return Lease(client(), name, seconds, database=database())

    tick = consume_shared(database(), stream(), lease_of, trail=trail())
    client().set(INTAKE_KEY, time.time())
    with database().read() as session:
        tell(session, client(), time.time() - settings().unmatched_after)
        tell_joined(session, client())
    if shown is not None:
        shown.count(tick)
        shown.measure_lag(stream(), positions(database()))
    if tick is None:
        return None
    publish_intake(client(), tick)
    if tick.counts.get("judgements") or tick.counts.get("retractions"):
        _ask_for_rewards()
    return tick.did


def _ask_for_rewards() -> None:
    """Have what people said published at once, and not only when beat's next tick is due."""
    every = settings().reward_every
    app: Any = current_app  # a proxy
    for policy in settings().policies if every else ():
        app.send_task(REWARD_TASK, [policy], queue=REWARD_QUEUE, expires=every)


def reward(policy: str = "default") -> str:
    """Publish a policy's reward model where judgements are new; returns what was done."""
    did = reward_publisher().publish(policy)
    log.info("reward model of %s: %s", policy, did)
    return did


def update(policy: str = "default") -> str | None:
    """One update of one policy, here or as a job; returns what was done."""
    if settings().updates_run_in != "worker":
        did = _begin(policy, update_jobs)
        report(policy, refit=False)  # where nothing was begun, no job will tell
        return did
    began = time.monotonic()
    did = tick(policy)
    if did is not None and time.monotonic() - began > settings().update_every:
        # It overran its interval, and beat's tick found the lease held: do not wait for the next.
        expires = settings().update_every
        app: Any = current_app  # a proxy
        app.send_task(UPDATE_TASK, [policy], queue=UPDATE_QUEUE, expires=expires)
    return did


def tick(policy: str) -> str | None:
    """One update of one policy in this process; returns the tick's sentence."""
    began = time.monotonic()
    tracing.start(settings(), "burnish-update", settings().data_dir)
    try:
        made = learner().tick(policy)
    except Exception as error:
        # This is the process's top loop: people must read why nothing trained.
        log.exception("the update of %s failed", policy)
        seconds = round(time.monotonic() - began, 3)
        why = _told(error)
        publish(client(), Tick("update", policy, "failed", why, seconds=seconds))
        raise
    finally:
        tracing.flush()  # the pool may end this process without a word
    if made is None:
        return None
    report(policy, refit=True)
    return made.did


def report(policy: str, *, refit: bool) -> None:
    """Tell serving whether the policy learns; with `refit` within a few seconds, which fits take."""
    from burnish.learner.report.publishing import publish_report

    try:
        publish_report(database(), client(), settings(), policy, refit=refit)
    except Exception:
        # This is the process's top loop: the update is done, and a report is no reason to fail it.
        log.exception("the report on %s could not be made", policy)


def look_after_jobs() -> None:
    """Ask after the jobs of all policies: what failed is told and begun again."""
    jobs = {COMPACTOR: compactor_jobs, **dict.fromkeys(settings().policies, update_jobs)}
    for policy, of_policy in jobs.items():
        try:
            of_policy().look_after(policy)
        except JobError as error:
            log.error("the update of %s cannot be asked after: %s", policy, masked(str(error)))


def compactor() -> str | None:
    """One update of the memory's compaction policy, here or as a job; returns what was done."""
    if settings().updates_run_in != "worker":
        return _begin(COMPACTOR, compactor_jobs)
    return compactor_tick()


def _begin(policy: str, jobs: Callable[[], UpdateJobs]) -> str | None:
    """Begin a job; where that cannot be, people must read why nothing trained."""
    try:
        return jobs().begin(policy)
    except JobError as error:
        why = masked(str(error))
        log.error("no job for %s: %s", policy, why)
        publish(client(), Tick("update", policy, "failed", why))
        return None


def _told(error: Exception) -> str:
    """What people read of it; our own errors speak for themselves."""
    own = isinstance(error, LearnerError)
    return masked(str(error) if own else f"{type(error).__name__}: {error}")


def compactor_tick() -> str | None:
    """The same in this process; returns the tick's sentence."""
    from burnish.learner.compactor import online

    try:
        tick = online.update_compactor(settings(), database())
    except Exception as error:
        # This is the process's top loop: people must read why nothing trained.
        log.exception("the update of the compactor failed")
        why = _told(error)
        publish(client(), Tick("update", "compactor", "failed", why))
        raise
    return tick.did if tick else None


def canary(policy: str = "default") -> str | None:
    """One look at a policy's canary; returns what was done."""
    from burnish.learner.alarms.history import holding
    from burnish.serving.registry import RegistryError

    with database().read() as session:
        alarms = [alarm.sentence for alarm in holding(session, policy, time.time())]
    try:
        made = controller().tick(policy, alarms)
    except RegistryError as error:
        log.error("the canary of %s waits: %s", policy, masked(str(error)))
        return None
    return made.did if made else None


def shadow(policy: str = "default") -> str | None:
    """Have a challenger that waits for it answer logged prompts, unseen; returns what came of it."""
    from burnish.learner.canary import shadow as shadows
    from burnish.learner.canary.settings import read_settings

    with database().read() as session:
        row = shadows.waiting(session, client(), policy)
    if row is None:
        return None
    from burnish.learner.update.shadow import compare_in_shadow
    from burnish.learner.update.tick import Learner

    seconds = settings().lease_seconds
    try:
        with Lease(client(), f"shadow:{policy}", seconds, database=database()):
            prompts = read_settings(settings().canary_settings, policy).shadow
            loaded = Learner(
                settings(), database()
            )  # let go afterwards: it is large, and rarely needed
            found = compare_in_shadow(loaded, policy, row.version, row.champion, prompts)
            return shadows.tell(client(), row.id, found).says
    except LeaseHeld:
        return None


def erase(counted: str | None = None) -> int:
    """Erase whom serving has erased from the rest, or count what that would be; how many people."""
    if counted is not None:
        receipts.count(database(), erasures(), counted)
        return 0
    return receipts.carry_out(database(), erasures(), client())


def release() -> int:
    """Delete the versions that hold erased data and are served no more; how many receipts are complete."""
    with database().read() as session:
        if not receipts.waiting(session):
            return 0
    from burnish.learner.update import held

    complete = held.release(database(), registry(), settings())
    for receipt in complete:
        erasures().advance(receipt.id, "finished", receipt.versions)
    return len(complete)


def alarms(policy: str = "default") -> str:
    """Look at what a policy serves; returns which alarms hold promotion back."""
    from burnish.learner.gate.limits import LimitsError
    from burnish.learner.update.holding import watched

    try:
        found = watch().look(policy, watched(registry(), policy))
    except LimitsError as error:
        log.error("BURNISH_ALARM_LIMITS: %s", error)
        return f"looked at nothing: {error}"
    did = "; ".join(alarm.sentence for alarm in found) or "none open"
    log.info("alarms of %s: %s", policy, did)
    return did


def silence(alarm: str, until: float, who: str, why: str) -> bool:
    """Let an open alarm hold nothing back for a while; whether there is such a one."""
    from burnish.learner.alarms import history, publishing

    with database().write() as session:
        found = history.silence(session, alarm, until=until, who=who, why=why)
    if found is None:
        return False
    with database().read() as session:
        publishing.publish(session, client(), found.policy)
    return True


def free(tenant: str, person: str, key_id: str | None, until: float, who: str, why: str) -> None:
    """Let what a rater gave until that time out of quarantine."""
    from burnish.learner.reward import quarantine

    with database().write() as session:
        quarantine.release(session, tenant, person, key_id, until=until, who=who, why=why)


def retention() -> str | None:
    """Erase what is older than its kind may be, as far as one tick comes; returns what it did."""
    if not settings().forgets:
        return None
    from burnish.learner import retention as ages

    did = []
    if (days := settings().retention_days) is not None:
        did.append(ages.expire_experience(database(), days, RETENTION_SECONDS))
    if (days := settings().retention_deadletter_days) is not None:
        did.append(ages.expire_letters(stream(), days))
    sessions, records = settings().retention_session_days, settings().retention_record_days
    if sessions is not None or records is not None:
        did += ages.expire_memory(settings().redis_url, sessions, records)
    line = "; ".join(did)
    log.info("%s", line)
    return line


@cache
def update_jobs() -> UpdateJobs:
    from burnish.learner.jobs.runners import new_runner
    from burnish.learner.jobs.updates import UpdateJobs
    from burnish.learner.update.attempts import nothing_to_do
    from burnish.learner.update.held import anew_since
    from burnish.learner.update.registration import being_tried

    def why_not(policy: str) -> str | None:
        champion = registry().champion_version(policy)
        with database().read() as session:
            nothing = nothing_to_do(session, policy, champion, settings())
            if nothing is None and (
                champion is None or anew_since(session, policy, champion) is None
            ):
                nothing = being_tried(registry(), policy, settings())
        return nothing

    return UpdateJobs(new_runner(settings()), client(), settings(), why_not)


@cache
def compactor_jobs() -> UpdateJobs:
    """A process of this machine wherever updates run: it takes a minute, and no accelerator."""
    from burnish.learner.jobs.runners import local_runner
    from burnish.learner.jobs.updates import UpdateJobs

    return UpdateJobs(local_runner(settings()), client(), settings(), lambda policy: None)


@cache
def registry() -> PolicyRegistry:
    from burnish.serving.registry import PolicyRegistry, signing_keys

    return PolicyRegistry(
        settings().registry,
        settings().mlflow_artifacts,
        who="learner",
        keys=signing_keys(settings().data_dir),
        audit=AuditLog(settings().data_dir),
    )


@cache
def controller() -> Controller:
    from burnish.learner.canary.controller import Controller

    return Controller(settings(), database(), registry(), client())


@cache
def watch() -> Watch:
    from burnish.learner.alarms.watching import Watch  # torch

    return Watch(database(), client(), settings())


@cache
def reward_publisher() -> RewardPublisher:
    from burnish.learner.update.publishing import RewardPublisher  # torch

    return RewardPublisher(settings(), database(), client())


@cache
def learner() -> Learner:
    from burnish.learner.update.tick import Learner  # torch: only in a process that trains

    return Learner(settings(), database())
