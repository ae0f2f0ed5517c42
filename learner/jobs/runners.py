"""The runner that the settings name."""

from __future__ import annotations

from burnish.learner.jobs.kubernetes import KubernetesRunner
from burnish.learner.jobs.process import ProcessRunner
from burnish.learner.jobs.protocol import JobRunner
from burnish.learner.jobs.slurm import SlurmRunner
from burnish.learner.settings import LearnerSettings


def new_runner(settings: LearnerSettings) -> JobRunner:
    """Raises JobError where it cannot be reached at all."""
    folder = settings.data_dir / "jobs"
    match settings.updates_run_in:
        case "slurm":
            return SlurmRunner(folder, settings.slurm_options)
        case "kubernetes":
            assert settings.kubernetes_job is not None, "the settings check it"
            return KubernetesRunner(settings.kubernetes_job)
        case _:
            return ProcessRunner(folder)
