"""Jobs in SLURM: `sbatch` hands them in, `scontrol` tells of them, and `sacct` once that has forgotten.

The cluster's nodes must see this machine's Python and data folder under the same paths.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from burnish.learner.jobs.protocol import Job, JobError, JobState, Phase, own_python

PATIENCE_S = 30  # of a command
# https://slurm.schedmd.com/job_state_codes.html; all others are failures.
PHASES = {
    "PENDING": Phase.WAITING,
    "CONFIGURING": Phase.WAITING,
    "REQUEUED": Phase.WAITING,
    "REQUEUE_HOLD": Phase.WAITING,
    "REQUEUE_FED": Phase.WAITING,
    "RESIZING": Phase.RUNNING,
    "RUNNING": Phase.RUNNING,
    "SUSPENDED": Phase.RUNNING,
    "STOPPED": Phase.RUNNING,
    "SIGNALING": Phase.RUNNING,
    "STAGE_OUT": Phase.RUNNING,
    "COMPLETING": Phase.RUNNING,
    "COMPLETED": Phase.DONE,
}


class SlurmRunner:
    """`options` are sbatch's own, as on its command line; `folder` gets the logs."""

    def __init__(self, folder: Path, options: str = "") -> None:
        self._folder = folder.resolve()
        self._options = shlex.split(options)

    def submit(self, job: Job) -> str:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        named = [f"--job-name={job.name}", f"--output={self._folder / job.name}.log"]
        command = shlex.join(own_python(job))
        told = _run("sbatch", "--parsable", *named, *self._options, f"--wrap={command}")
        return told.strip().split(";")[0]  # "id;cluster"

    def state(self, job_id: str) -> JobState:
        state, code = self._controlled(job_id) or self._accounted(job_id) or ("", "")
        if not state:
            return JobState(Phase.FAILED, f"SLURM knows no job {job_id} any more")
        phase = PHASES.get(state, Phase.FAILED)
        if phase is not Phase.FAILED:
            return JobState(phase)
        return JobState(phase, f"SLURM's job {job_id} ended as {state}, exit code {code or '?'}")

    def cancel(self, job_id: str) -> None:
        _run("scancel", job_id)

    def _controlled(self, job_id: str) -> tuple[str, str] | None:
        try:
            told = _run("scontrol", "--oneliner", "show", "job", job_id)
        except JobError as error:
            if "Invalid job id" in str(error):
                return None
            raise
        fields = {name: value for name, _, value in (word.partition("=") for word in told.split())}
        return fields["JobState"], fields.get("ExitCode", "")

    def _accounted(self, job_id: str) -> tuple[str, str] | None:
        try:
            told = _run(
                "sacct",
                "--noheader",
                "--parsable2",
                "--allocations",
                "--format=State,ExitCode",
                f"--jobs={job_id}",
            )
        except JobError:
            return None  # a cluster without accounting
        if not told.strip():
            return None
        state, _, code = told.splitlines()[0].partition("|")  # "CANCELLED by 0|0:15"
        return state.split()[0], code


def _run(*command: str) -> str:
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
    except FileNotFoundError as error:
        raise JobError(
            f"BURNISH_UPDATE_JOB=slurm needs {command[0]}, which this machine has not"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise JobError(f"SLURM did not answer {command[0]} within {PATIENCE_S} s") from error
    except subprocess.CalledProcessError as error:
        raise JobError(f"{command[0]}: {error.stderr.strip() or error}") from error
    return ran.stdout
