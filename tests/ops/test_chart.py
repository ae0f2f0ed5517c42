"""The Helm chart, rendered by helm itself and held to the schemas of Kubernetes' last three versions."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from burnish.ops.settings import known

from tests.conftest import missing

CHART = Path(__file__).parents[2] / "ops" / "chart"
FEATURES = (
    "serving.autoscaling.enabled=true",
    "intake.autoscaling.enabled=true",
    "ingress.enabled=true",
    "ingress.host=chat.example.org",
    "ingress.className=nginx",
    "ingress.tlsSecretName=chat-tls",
    "modelVolumeClaim=models",
    "serving.storage.className=fast",
    "updateJob.enabled=true",
)


def versions() -> list[str]:
    """The last three minor versions that the package has schemas of."""
    minor = int(kubernetes_validate.latest_version().split(".")[1])
    return [f"1.{minor - back}.0" for back in range(3)]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    binary = shutil.which("helm") or shutil.which("helm", path=str(Path.home() / "go" / "bin"))
    if binary is None:
        missing("helm is not installed (ops/install.sh helm)")
    return subprocess.run(
        [binary, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@cache
def rendered(*values: str, kubernetes: str = "1.37.0") -> list[dict[str, Any]]:
    sets = [part for value in values for part in ("--set", value)]
    done = helm("template", "live", str(CHART), "--kube-version", kubernetes, *sets)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of(kind: str, *values: str) -> dict[str, dict[str, Any]]:
    return {d["metadata"]["name"]: d for d in rendered(*values) if d["kind"] == kind}


def pods(*values: str) -> dict[str, dict[str, Any]]:
    """The pod's spec of every workload, by the workload's name."""
    kinds = ("Deployment", "StatefulSet", "Job")
    return {
        name: d["spec"]["template"]["spec"]
        for kind in kinds
        for name, d in of(kind, *values).items()
    }


def variables(pod: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in pod["containers"][0]["env"]}


def test_helm_finds_nothing_wrong():
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kubernetes", versions())
@pytest.mark.parametrize("values", [(), FEATURES], ids=["defaults", "everything"])
def test_every_object_is_valid_for_the_last_three_versions(kubernetes: str, values: tuple):
    for document in rendered(*values, kubernetes=kubernetes):
        kubernetes_validate.validate(document, kubernetes.rpartition(".")[0], strict=True)


def update_job(*values: str) -> dict[str, Any]:
    """The manifest that the worker hands in, as it reads it."""
    return yaml.safe_load(of("ConfigMap", *values)["live-burnish-update-job"]["data"]["job.yaml"])


@pytest.mark.parametrize("kubernetes", versions())
def test_the_job_of_an_update_is_valid_once_it_has_a_name(kubernetes: str):
    made = update_job("updateJob.enabled=true", "modelVolumeClaim=models")
    made["metadata"]["generateName"] = "burnish-update-default-"
    kubernetes_validate.validate(made, kubernetes.rpartition(".")[0], strict=True)


def test_the_worker_may_hand_in_jobs_and_a_job_has_what_an_update_needs():
    values = ("updateJob.enabled=true", "updateJob.volumeClaim=shared")
    worker = pods(*values)["live-burnish-worker"]
    assert variables(worker)["BURNISH_UPDATE_JOB"]["value"] == "kubernetes"
    assert worker["serviceAccountName"] in of("ServiceAccount", *values)
    assert of("RoleBinding", *values)["live-burnish-worker"]["roleRef"]["name"] in of(
        "Role", *values
    )
    pod = update_job(*values)["spec"]["template"]["spec"]
    own = variables(worker).keys() - {
        "REMAP_SIGTERM",
        *(n for n in variables(worker) if "JOB" in n),
    }
    assert variables(pod).keys() == own
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "shared"
    assert "live-burnish-update-job" not in of("ConfigMap")
    assert pods()["live-burnish-worker"]["automountServiceAccountToken"] is False


def test_an_object_that_is_not_valid_is_found():
    document = {**of("Service")["live-burnish"], "spec": {"ports": [{"prot": 80}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, "1.37", strict=True)


def test_every_process_has_its_pod():
    assert set(pods()) == {
        f"live-burnish-{name}"
        for name in ("serving", "intake", "worker", "beat", "mlflow", "prepare-1")
    }


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "PodDisruptionBudget"])
def test_selectors_choose_the_pods_they_are_meant_for(kind: str):
    labels = [
        d["spec"]["template"]["metadata"]["labels"]
        for workloads in ("Deployment", "StatefulSet")
        for d in of(workloads).values()
    ]
    for document in of(kind).values():
        wanted = document["spec"]["selector"]["matchLabels"].items()
        assert sum(wanted <= each.items() for each in labels) == 1


def test_no_secret_is_written_out_and_every_setting_is_one():
    for name, pod in pods(*FEATURES).items():
        for variable, entry in variables(pod).items():
            if variable.startswith("BURNISH_"):
                assert variable in known(), (name, variable)
            if any(word in variable for word in ("PASSWORD", "SECRET", "KEY", "REDIS", "DATABASE")):
                assert entry["valueFrom"]["secretKeyRef"]["name"] == "burnish", (name, variable)


def test_no_process_is_privileged():
    for pod in pods().values():
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert not pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"]


def test_replicas_of_serving_keep_their_spool_and_share_their_keys():
    serving = of("StatefulSet")["live-burnish-serving"]["spec"]
    assert serving["replicas"] == 2
    assert serving["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Retain"
    assert serving["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert {"BURNISH_KEYS_URL", "BURNISH_SECRET", "BURNISH_SIGNING_KEY"} <= set(
        variables(pods()["live-burnish-serving"])
    )


def test_probes_ask_what_serving_answers():
    container = pods()["live-burnish-serving"]["containers"][0]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_only_one_beat_at_a_time():
    beat = of("Deployment")["live-burnish-beat"]["spec"]
    assert beat["replicas"] == 1
    assert beat["strategy"] == {"type": "Recreate"}


def test_autoscaling_is_by_the_queues_and_owns_the_replicas():
    scalers = of("HorizontalPodAutoscaler", *FEATURES)
    by = {name: d["spec"]["metrics"][0] for name, d in scalers.items()}
    assert by["live-burnish-serving"]["pods"]["metric"]["name"] == "burnish_engine"
    assert by["live-burnish-intake"]["external"]["metric"]["name"] == "burnish_stream_lag_records"
    assert "replicas" not in of("StatefulSet", *FEATURES)["live-burnish-serving"]["spec"]
    assert not of("HorizontalPodAutoscaler")


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("serving.replicas=0", "replicas"),
        ("secretName=", "secretName"),
        ("settings.lower=x", "lower"),
        ("ingress.enabled=true", "host"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(value: str, names: str):
    done = helm("template", "live", str(CHART), "--set", value)
    assert done.returncode != 0
    assert names in done.stderr
