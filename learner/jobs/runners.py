"""The runner that the settings name."""

from __future__ import annotations

from pathlib import Path

from burnish.learner.jobs.kubernetes import KubernetesRunner
from burnish.learner.jobs.process import ProcessRunner
from burnish.learner.jobs.protocol import JobRunner
from burnish.learner.jobs.slurm import SlurmRunner
from burnish.learner.settings import LearnerSettings


def new_runner(settings: LearnerSettings) -> JobRunner:
    """Raises JobError where it cannot be reached at all."""
    match settings.updates_run_in:
        case "slurm":
            return SlurmRunner(_folder(settings), settings.slurm_options)
        case "kubernetes":
            assert settings.kubernetes_job is not None, "the settings check it"
            return KubernetesRunner(settings.kubernetes_job)
        case _:
            return local_runner(settings)


def local_runner(settings: LearnerSettings) -> JobRunner:
    return ProcessRunner(_folder(settings))


def _folder(settings: LearnerSettings) -> Path:
    """Of logs."""
    return settings.data_dir / "jobs"
