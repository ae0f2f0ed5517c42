"""What runs jobs: a process of this machine, a real SLURM of one node, Kubernetes' API as documented."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from burnish.learner.jobs import Job, JobError, JobRunner, JobState, Phase
from burnish.learner.jobs.kubernetes import KubernetesRunner
from burnish.learner.jobs.process import ProcessRunner
from burnish.learner.jobs.slurm import SlurmRunner

from tests.kubernetes_api import KubernetesApi
from tests.slurm import SlurmCluster, slurm_or_skip
from tests.waiting import eventually

NewRunner = Callable[[], JobRunner]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    made = slurm_or_skip(tmp_path_factory.mktemp("slurm"))
    yield made
    made.stop()


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    made = KubernetesApi(tmp_path)
    made.start()
    monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig()))
    yield made
    made.stop()


def manifest(folder: Path) -> Path:
    path = folder / "job.yaml"
    container = {"name": "update", "image": "burnish", "args": ["replaced"]}
    pod = {"restartPolicy": "Never", "containers": [container]}
    content = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": pod}}}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(params=["process", "slurm", "kubernetes"])
def new_runner(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewRunner:
    """A runner as each process makes its own."""
    if request.param == "process":
        return lambda: ProcessRunner(tmp_path / "jobs")
    if request.param == "kubernetes":
        request.getfixturevalue("kubernetes")
        return lambda: KubernetesRunner(manifest(tmp_path))
    for name, value in request.getfixturevalue("slurm").environment.items():
        monkeypatch.setenv(name, value)
    return lambda: SlurmRunner(tmp_path / "jobs", "--ntasks=1 --comment='two words'")


def job(code: str) -> Job:
    return Job("burnish-update-default", [sys.executable, "-c", code])


def ended(runner: JobRunner, job_id: str) -> JobState:
    eventually(lambda: runner.state(job_id).ended, seconds=60)
    return runner.state(job_id)


def test_a_job_runs_and_any_process_sees_that_it_is_done(new_runner: NewRunner, tmp_path: Path):
    made = tmp_path / "made by the job"
    job_id = new_runner().submit(job(f"open({str(made)!r}, 'w').write('it')"))
    assert ended(new_runner(), job_id) == JobState(Phase.DONE)
    assert made.read_text() == "it"


def test_a_job_that_failed_says_how(new_runner: NewRunner):
    runner = new_runner()
    state = ended(runner, runner.submit(job("import sys; print('no memory'); sys.exit(3)")))
    assert state.phase is Phase.FAILED
    assert "3" in state.reason or "no memory" in state.reason
    assert state.reason.count("\n") == 0


def test_a_job_that_is_cancelled_ends(new_runner: NewRunner, tmp_path: Path):
    runner, alive = new_runner(), tmp_path / "alive"
    code = f"import time; open({str(alive)!r}, 'w'); time.sleep(600)"
    job_id = runner.submit(job(code))
    eventually(alive.exists, seconds=60)
    assert runner.state(job_id).phase is Phase.RUNNING
    runner.cancel(job_id)
    assert ended(new_runner(), job_id).phase is Phase.FAILED
    new_runner().cancel(job_id)


def test_a_process_that_was_killed_has_failed_and_its_number_means_no_other(tmp_path: Path):
    runner = ProcessRunner(tmp_path)
    job_id = runner.submit(job("import time; print('began', flush=True); time.sleep(600)"))
    eventually((tmp_path / "burnish-update-default.log").read_text, seconds=30)
    name, pid, began = job_id.split("/")
    earlier = f"{name}/{pid}/{float(began) - 60}"
    assert ProcessRunner(tmp_path).state(earlier).phase is Phase.FAILED
    runner.cancel(job_id)
    assert "its process died" in ended(runner, job_id).reason
    assert "began" in ended(runner, job_id).reason


def test_slurm_that_has_forgotten_a_job_says_so(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    assert "no job 4242 " in SlurmRunner(tmp_path).state("4242").reason


def test_without_slurm_the_setting_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JobError, match="BURNISH_UPDATE_JOB=slurm needs sbatch"):
        SlurmRunner(tmp_path).submit(job(""))


def test_sbatch_that_refuses_is_quoted(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    with pytest.raises(JobError, match=r"sbatch: .*partition"):
        SlurmRunner(tmp_path, "--partition=gpu").submit(job(""))


def test_kubernetes_gets_the_operators_manifest_with_name_and_command(kubernetes, tmp_path):
    runner = KubernetesRunner(manifest(tmp_path))
    runner.submit(job("pass"))
    (made,) = kubernetes.manifests
    assert made["metadata"]["generateName"] == "burnish-update-default-"
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "burnish"
    assert container["command"] == [sys.executable, "-c", "pass"]
    assert "args" not in container


def test_a_job_that_kubernetes_has_deleted_has_failed(kubernetes, tmp_path):
    runner = KubernetesRunner(manifest(tmp_path))
    job_id = runner.submit(job("pass"))
    kubernetes.forget()
    assert "no Job default/burnish-update-default-0" in runner.state(job_id).reason


def test_kubernetes_that_refuses_or_is_away_is_told_in_a_line(kubernetes, tmp_path):
    runner = KubernetesRunner(manifest(tmp_path))
    kubernetes.refuse = 403
    with pytest.raises(JobError, match=r"403 Forbidden .*service account may lack a role"):
        runner.submit(job("pass"))
    kubernetes.stop()
    with pytest.raises(JobError, match="Kubernetes does not answer"):
        runner.state("default/x")


def test_a_manifest_that_is_none_names_the_setting(kubernetes, tmp_path):
    (tmp_path / "none.yaml").write_text("kind: Pod")
    with pytest.raises(JobError, match=r"BURNISH_KUBERNETES_JOB=.*none.yaml must be the manifest"):
        KubernetesRunner(tmp_path / "none.yaml").submit(job("pass"))
