"""Jobs as processes of this machine: children of the worker, which outlive the tick that began them.

The id names the process and when it began, since the system gives numbers away again. The exit status
lies in a file, for whoever asks need not be the parent.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
from burnish.learner.jobs.protocol import Job, JobError, JobState, Phase, own_python

# Runs "$@", then notes its exit status in $0, for as long as there is somebody to note it.
RUN = '"$@"; status=$?; echo $status > "$0.draft" && mv "$0.draft" "$0"; exit $status'
LAST_LINES = 5  # of the log, in the reason of a failure


class ProcessRunner:
    """`folder` keeps the log and the exit status of each name's last job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[subprocess.Popen[bytes]] = []

    def submit(self, job: Job) -> str:
        self._reap()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._status(job.name).unlink(missing_ok=True)
            with self._log(job.name).open("wb") as log:
                child = subprocess.Popen(
                    ["/bin/sh", "-c", RUN, str(self._status(job.name)), *own_python(job)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            began = psutil.Process(child.pid).create_time()
        except (OSError, psutil.Error) as error:
            raise JobError(f"{job.command[0]} could not be started: {error}") from error
        self._children.append(child)
        return f"{job.name}/{child.pid}/{began}"

    def state(self, job_id: str) -> JobState:
        self._reap()
        name, pid, began = job_id.rsplit("/", 2)
        if _alive(int(pid), float(began)):
            return JobState(Phase.RUNNING)
        status = self._status(name)
        if not status.exists():
            return JobState(Phase.FAILED, f"its process died{self._told(name)}")
        if (code := status.read_text().strip()) == "0":
            return JobState(Phase.DONE)
        return JobState(Phase.FAILED, f"exit status {code}{self._told(name)}")

    def cancel(self, job_id: str) -> None:
        _, pid, began = job_id.rsplit("/", 2)
        if not _alive(int(pid), float(began)):
            return
        for process in _family(int(pid)):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
            except psutil.Error as error:
                raise JobError(f"the job's process could not be ended: {error}") from error

    def _reap(self) -> None:
        """Let the system forget children that have ended."""
        self._children = [child for child in self._children if child.poll() is None]

    def _told(self, name: str) -> str:
        """The last lines of its log, and where the rest is."""
        log = self._log(name)
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        last = " | ".join([line.strip() for line in lines if line.strip()][-LAST_LINES:])
        return f" ({log}): {last}" if last else ""

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _status(self, name: str) -> Path:
        return self._folder / f"{name}.status"


def _alive(pid: int, began: float) -> bool:
    try:
        process = psutil.Process(pid)
        return process.create_time() == began and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _family(pid: int) -> list[psutil.Process]:
    """The process and all that it began."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
