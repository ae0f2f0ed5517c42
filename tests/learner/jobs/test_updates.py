"""An update as a job: begun when there is something to learn, one at a time, begun again where it failed."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from burnish.feedback.contract import JOB_PREFIX
from burnish.learner.jobs import Job, JobError, JobState, Phase
from burnish.learner.jobs.process import ProcessRunner
from burnish.learner.jobs.updates import UpdateJobs
from burnish.learner.lease import Lease
from burnish.learner.settings import LearnerSettings
from burnish.learner.update.attempts import Attempt, Attempts, nothing_to_do
from burnish.learner.update.tick import Learner

from tests.learner.conftest import latest_ticks
from tests.learner.update.conftest import SMALL, add_judged, lineage
from tests.waiting import eventually

RUNNING, DONE = JobState(Phase.RUNNING), JobState(Phase.DONE)
FAILED = JobState(Phase.FAILED, "exit status 1")


@dataclass
class ScriptedRunner:
    """Its jobs stand as it is told."""

    states: dict[str, JobState] = field(default_factory=dict)
    submitted: list[Job] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    away: bool = False

    def submit(self, job: Job) -> str:
        if self.away:
            raise JobError("SLURM did not answer")
        self.submitted.append(job)
        job_id = str(len(self.submitted))
        self.states[job_id] = RUNNING
        return job_id

    def state(self, job_id: str) -> JobState:
        if self.away:
            raise JobError("SLURM did not answer")
        return self.states[job_id]

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def runner() -> ScriptedRunner:
    return ScriptedRunner()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs_with(redis_client, runner, clock, tmp_path):
    def make(why_not: str | None = None, **changes) -> UpdateJobs:
        settings = LearnerSettings(data_dir=tmp_path, **changes)
        return UpdateJobs(runner, redis_client, settings, lambda policy: why_not, clock)

    return make


def test_an_update_runs_once_whoever_asks_for_it(jobs_with, runner):
    assert jobs_with().begin("My Shop") == "began job 1"
    assert jobs_with().begin("My Shop") is None
    (job,) = runner.submitted
    assert job.name == "burnish-update-my-shop"
    assert job.command[1:] == ["-m", "burnish.learner.update_job", "My Shop"]
    assert jobs_with().begin("default") == "began job 2", "another policy has a job of its own"


def test_nothing_is_submitted_where_nothing_would_be_learned(jobs_with, runner, redis_client):
    assert jobs_with("3 new judgements").begin("default") == "trained nothing"
    assert not runner.submitted
    assert latest_ticks(redis_client)[0]["why_not"] == "3 new judgements"


def test_after_a_job_is_done_the_next_may_begin(jobs_with, runner, redis_client):
    jobs_with().begin("default")
    runner.states["1"] = DONE
    assert jobs_with().look_after("default") is None
    assert len(runner.submitted) == 1, "the next tick decides"
    assert jobs_with().begin("default") == "began job 2"
    assert latest_ticks(redis_client) == [], "the job leaves the line of its tick itself"


def test_a_job_that_failed_is_told_and_begun_again_a_few_times(jobs_with, runner, redis_client):
    jobs_with().begin("default")
    for number in (1, 2, 3):
        assert len(runner.submitted) == number
        runner.states[str(number)] = FAILED
        jobs_with().look_after("default")
    assert len(runner.submitted) == 3
    ticks = latest_ticks(redis_client)
    assert [(t["did"], t["why_not"]) for t in ticks] == [("failed", "exit status 1")] * 3
    assert jobs_with().begin("default") == "began job 4"


def test_a_job_that_hangs_is_ended(jobs_with, runner, clock, redis_client):
    jobs = jobs_with(update_hours=2)
    jobs.begin("default")
    clock.now += 7199
    assert jobs.look_after("default") == RUNNING
    clock.now += 2
    jobs.look_after("default")
    assert runner.cancelled == ["1"]
    assert "BURNISH_UPDATE_HOURS=2" in latest_ticks(redis_client)[0]["why_not"]


def test_an_update_that_overran_its_interval_is_followed_at_once(jobs_with, runner, clock):
    jobs = jobs_with(update_every=5400)
    jobs.begin("default")
    clock.now += 5401
    runner.states["1"] = DONE
    jobs.look_after("default")
    assert len(runner.submitted) == 2


def test_a_runner_that_is_away_loses_no_job_and_begins_none_twice(jobs_with, runner):
    jobs = jobs_with()
    jobs.begin("default")
    runner.away = True
    with pytest.raises(JobError, match="did not answer"):
        jobs.begin("default")
    with pytest.raises(JobError, match="did not answer"):
        jobs.begin("shop")
    runner.away = False
    assert jobs.look_after("default") == RUNNING
    assert jobs.begin("shop") == "began job 2"


def test_a_worker_that_dies_while_it_submits_keeps_nobody_waiting_for_ever(jobs_with, redis_client):
    redis_client.set(JOB_PREFIX + "default", "", ex=1)
    assert jobs_with().begin("default") is None
    eventually(lambda: not redis_client.exists(JOB_PREFIX + "default"), seconds=10)
    assert jobs_with().begin("default") == "began job 1"


def test_ranks_are_started_by_torchrun(jobs_with, runner):
    jobs_with(update_ranks=4).begin("default")
    command = " ".join(runner.submitted[0].command)
    assert "-m torch.distributed.run --standalone --nproc-per-node=4" in command
    assert command.endswith("-m burnish.learner.update_job default")


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"update_every": 5400}, "process"),
        ({"update_every": 20}, "worker"),
        ({"update_every": 20, "update_job": "slurm"}, "slurm"),
    ],
)
def test_rare_updates_get_a_process_of_their_own(tmp_path, fields, where):
    assert LearnerSettings(data_dir=tmp_path, **fields).updates_run_in == where


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"update_every": 20, "update_ranks": 2}, "BURNISH_UPDATE_RANKS=2 needs a job"),
        ({"update_job": "kubernetes"}, "needs BURNISH_KUBERNETES_JOB"),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path, fields, named):
    with pytest.raises(ValueError, match=named):
        LearnerSettings(data_dir=tmp_path, **fields)


def test_what_would_train_nothing_is_known_before_a_job_begins(learner_with, redis_client):
    learner = learner_with()
    database, settings = learner.database, learner.settings

    def why_not(champion: int | None) -> str | None:
        with database.read() as session:
            return nothing_to_do(session, "default", champion, settings)

    assert "0 new judgements" in (why_not(None) or "")
    add_judged(database, range(1, 5))
    assert "4 judged answers so far" in (why_not(None) or "")
    add_judged(database, range(5, 13))
    assert why_not(None) is None
    learner.tick("default")
    assert "0 new judgements" in (why_not(2) or "")
    add_judged(database, range(13, 19))
    with Lease(redis_client, "update:default", database=database) as lease:
        begun = Attempts(database, lease, "default").begin(2, settings)
    assert isinstance(begun, Attempt)
    assert why_not(2) is None, "an attempt that a killed job left is taken up"


@pytest.fixture
def environment(learner_with, redis_url, tiny_model: Path, monkeypatch) -> Learner:
    """A learner's settings in the environment, for the processes of jobs."""
    learner = learner_with(update_job="process")
    given = {**SMALL, "redis_url": redis_url, "model": tiny_model, "update_job": "process"}
    for name, value in {**given, "data_dir": learner.settings.data_dir}.items():
        monkeypatch.setenv(f"BURNISH_{name.upper()}", str(value))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return learner


def in_a_worker(call: str) -> str:
    """What a call of the worker's says, in a process that ends after it."""
    code = f"from burnish.learner import work; print(work.{call})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.timeout(300)
def test_a_job_outlives_the_process_that_began_it(environment: Learner, redis_client):
    add_judged(environment.database, range(1, 13))
    assert in_a_worker("update()").startswith("began job burnish-update-default/")
    assert in_a_worker("update()") == "None", "it runs"
    eventually(lambda: latest_ticks(redis_client), seconds=240)
    assert latest_ticks(redis_client)[0]["counts"]["version"] == 2
    eventually(lambda: not redis_client.exists("burnish:lease:update:default"), seconds=30)
    eventually(
        lambda: in_a_worker("look_after_jobs()") and not redis_client.exists(JOB_PREFIX + "default")
    )
    assert in_a_worker("update()") == "trained nothing"
    assert "0 new judgements" in latest_ticks(redis_client)[0]["why_not"]


@pytest.mark.timeout(300)
def test_a_job_of_two_ranks_makes_a_version(environment: Learner, redis_client, tmp_path):
    add_judged(environment.database, range(1, 13))
    runner = ProcessRunner(tmp_path / "jobs")
    settings = environment.settings.model_copy(update={"update_ranks": 2})
    UpdateJobs(runner, redis_client, settings, lambda policy: None).begin("default")
    job = json.loads(redis_client.get(JOB_PREFIX + "default"))["id"]
    eventually(lambda: runner.state(job).ended, seconds=240)
    log = (tmp_path / "jobs" / "burnish-update-default.log").read_text()
    assert runner.state(job) == DONE, log[-4000:]
    tick = latest_ticks(redis_client)[0]
    assert (tick["counts"]["version"], tick["counts"]["steps"]) == (2, 2), log[-4000:]
    assert len(lineage(environment.database)[2]) == 12
    files = sorted(p.name for p in settings.checkpoints.rglob("optimiser*"))
    assert len(files) == 2, files


def test_a_cluster_that_is_not_there_is_one_line_for_people(
    environment: Learner, redis_client, monkeypatch, tmp_path
):
    monkeypatch.setenv("BURNISH_UPDATE_JOB", "slurm")
    monkeypatch.setenv("PATH", str(tmp_path))
    add_judged(environment.database, range(1, 13))
    assert in_a_worker("update()") == "None"
    (tick,) = latest_ticks(redis_client)
    assert tick["why_not"] == "BURNISH_UPDATE_JOB=slurm needs sbatch, which this machine has not"
    assert in_a_worker("look_after_jobs()") == "None"


def test_the_compactor_takes_one_process_whatever_a_policy_takes(jobs_with, runner):
    jobs_with(update_ranks=4).begin("compactor")
    assert runner.submitted[0].command[1:] == ["-m", "burnish.learner.update_job", "compactor"]
