"""The update of each policy as a job: one at a time, begun when there is something to learn.

A job's record lies in Redis, so that any worker can look after it. Losing the record costs nothing but a
second job, which finds the lease held and ends. A job that failed is begun again at once, a few times:
its attempt goes on from the last checkpoint.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import redis
from burnish.feedback.contract import COMPACTOR, JOB_PREFIX
from burnish.feedback.masking import masked
from burnish.learner.jobs.protocol import PYTHON, Job, JobError, JobRunner, JobState, Phase
from burnish.learner.settings import LearnerSettings
from burnish.learner.ticks import Tick, publish

log = logging.getLogger(__name__)

MODULE = "burnish.learner.update_job"
MOST_FAILURES = 3  # of one update's jobs in a row; then the next tick begins anew
RESTARTS = 2  # of all ranks by torchrun, before the job has failed
SUBMITTING_S = 120  # after which a worker that died while it submitted is given up


@dataclass(frozen=True)
class UpdateJob:
    """`id` is the runner's; `began` in seconds since the epoch; `failures` of those before it."""

    policy: str
    id: str
    began: float
    failures: int = 0


class UpdateJobs:
    """`nothing_to_do` says why a policy needs no update now, None where it does. `clock` tells the time
    in seconds since the epoch."""

    def __init__(
        self,
        runner: JobRunner,
        client: redis.Redis,
        settings: LearnerSettings,
        nothing_to_do: Callable[[str], str | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runner, self._redis, self._settings = runner, client, settings
        self._nothing_to_do, self._clock = nothing_to_do, clock

    def begin(self, policy: str) -> str | None:
        """Begin the policy's update, if none runs and there is something to learn; what was done."""
        if self.look_after(policy) is not None:
            return None
        if reason := self._nothing_to_do(policy):
            publish(self._redis, Tick("update", policy, "trained nothing", why_not=reason))
            return "trained nothing"
        return self._submit(policy, failures=0)

    def look_after(self, policy: str) -> JobState | None:
        """How the policy's job stands; None where none is left to wait for."""
        job = self._job(policy)
        if job is None:
            return None
        state = self._state(job)
        if not state.ended:
            return state
        self._redis.delete(JOB_PREFIX + policy)
        if state.phase is Phase.DONE:
            if self._age(job) > self._settings.update_every:
                self.begin(policy)  # it overran its interval: do not wait for the next
            return None
        failures = job.failures + 1
        log.error("the update of %s failed: %s", policy, state.reason)
        why = masked(state.reason)
        publish(self._redis, Tick("update", policy, "failed", why, seconds=self._age(job)))
        if failures < MOST_FAILURES:
            self._submit(policy, failures)
            return JobState(Phase.WAITING)
        return None

    def _state(self, job: UpdateJob) -> JobState:
        """The runner's word, unless the job has taken too long."""
        state = self._runner.state(job.id)
        hours = self._settings.update_hours
        if state.ended or self._age(job) < 3600 * hours:
            return state
        self._runner.cancel(job.id)
        return JobState(
            Phase.FAILED, f"ended after BURNISH_UPDATE_HOURS={hours:g}, while {state.phase}"
        )

    def _submit(self, policy: str, failures: int) -> str | None:
        key = JOB_PREFIX + policy
        if not self._redis.set(key, "", nx=True, ex=SUBMITTING_S):
            return None  # another worker was quicker
        name = f"burnish-update-{re.sub('[^a-z0-9]+', '-', policy.lower()).strip('-')}"
        try:
            job_id = self._runner.submit(Job(name, update_command(self._settings, policy)))
        except JobError:
            self._redis.delete(key)
            raise
        job = UpdateJob(policy, job_id, self._clock(), failures)
        self._redis.set(key, json.dumps(asdict(job)))
        return f"began job {job_id}"

    def _job(self, policy: str) -> UpdateJob | None:
        found = self._redis.get(JOB_PREFIX + policy)
        if not found:  # none, or one that is being submitted
            return None
        return UpdateJob(**json.loads(found))  # type: ignore[arg-type]

    def _age(self, job: UpdateJob) -> float:
        return round(self._clock() - job.began, 3)


def update_command(settings: LearnerSettings, policy: str) -> list[str]:
    """What a job runs: the update, on BURNISH_UPDATE_RANKS ranks."""
    if settings.update_ranks == 1 or policy == COMPACTOR:
        return [PYTHON, "-m", MODULE, policy]
    torchrun = [PYTHON, "-m", "torch.distributed.run", "--standalone"]
    torchrun += [f"--nproc-per-node={settings.update_ranks}", f"--max-restarts={RESTARTS}"]
    return [*torchrun, "-m", MODULE, policy]
