"""Updates as jobs: submitted and looked after by a tick, run elsewhere.

`updates.py` says when a policy's update runs, and its job runs `burnish.learner.update_job`. Behind the one
protocol (`protocol.py`) are a process of this machine, SLURM and Kubernetes.
"""

from burnish.learner.jobs.protocol import Job, JobError, JobRunner, JobState, Phase

__all__ = ["Job", "JobError", "JobRunner", "JobState", "Phase"]
