"""What runs jobs: a command is submitted, and asked after by the id that came back.

Left out: results. A job writes what it made to the database and the registry, under its own lease.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from burnish.learner.database import LearnerError

PYTHON = "python"  # in a command: whatever Python the job finds Burnish in


class JobError(LearnerError):
    """A job could not be submitted, asked after or ended; the message names the part and the setting."""


class Phase(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class JobState:
    phase: Phase
    reason: str = ""  # of a failed one, for people

    @property
    def ended(self) -> bool:
        return self.phase in (Phase.DONE, Phase.FAILED)


@dataclass(frozen=True)
class Job:
    """A command under a name, which is in the runner's own lists, too: letters, digits and dashes."""

    name: str
    command: Sequence[str]


def own_python(job: Job) -> list[str]:
    """The command with this process's own interpreter, for where that runs."""
    return [sys.executable if word == PYTHON else word for word in job.command]


class JobRunner(Protocol):
    """Raises JobError from each call where what runs the jobs cannot be asked."""

    def submit(self, job: Job) -> str:
        """Hand the job over; returns its id, by which any process may ask after it."""
        ...

    def state(self, job_id: str) -> JobState:
        """How it stands. A job that the runner has forgotten has failed."""
        ...

    def cancel(self, job_id: str) -> None:
        """End it, if it has not ended."""
        ...
