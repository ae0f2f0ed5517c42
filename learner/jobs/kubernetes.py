"""Jobs in Kubernetes: a Job of the batch/v1 API for each, made of a manifest that the operator gives.

The manifest says image, volumes, resources and how often a pod may fail; here it gets a name and its
first container a command. The chart brings one. Through the official client (`pip install
burnish[kubernetes]`), in a cluster with the pod's service account, elsewhere with the kubeconfig file.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import yaml
from burnish.learner.jobs.protocol import Job, JobError, JobState, Phase

PATIENCE_S = 30  # of a request
LAST_LINES = 5  # of a pod's log, in the reason of a failure


class KubernetesRunner:
    def __init__(self, manifest: Path) -> None:
        self._manifest = manifest
        client, connection = _client()
        self._batch, self._core = client.BatchV1Api(connection), client.CoreV1Api(connection)
        self._refused = client.ApiException
        self._unreached = importlib.import_module("urllib3.exceptions").HTTPError
        self._namespace = _namespace()

    def submit(self, job: Job) -> str:
        made = self._read()
        metadata = made.setdefault("metadata", {})
        namespace = metadata.get("namespace") or self._namespace
        metadata.pop("name", None)
        metadata["generateName"] = f"{job.name}-"
        container = made["spec"]["template"]["spec"]["containers"][0]
        container["command"] = list(job.command)
        container.pop("args", None)
        created = self._ask(self._batch.create_namespaced_job, namespace, made)
        return f"{namespace}/{created.metadata.name}"

    def state(self, job_id: str) -> JobState:
        namespace, name = job_id.split("/")
        found = self._ask(self._batch.read_namespaced_job_status, name, namespace, missing=None)
        if found is None:
            return JobState(Phase.FAILED, f"Kubernetes has no Job {job_id} any more")
        for condition in found.status.conditions or ():
            if condition.status != "True":
                continue
            if condition.type == "Complete":
                return JobState(Phase.DONE)
            if condition.type == "Failed":
                why = f"{condition.reason}: {condition.message}"
                return JobState(Phase.FAILED, f"Job {job_id}: {why}{self._told(namespace, name)}")
        return JobState(Phase.RUNNING if found.status.ready else Phase.WAITING)

    def cancel(self, job_id: str) -> None:
        namespace, name = job_id.split("/")
        delete = self._batch.delete_namespaced_job
        self._ask(delete, name, namespace, missing=None, propagation_policy="Background")

    def _read(self) -> dict[str, Any]:
        """The operator's manifest."""
        try:
            made = yaml.safe_load(self._manifest.read_text())
            if made["kind"] != "Job" or not made["spec"]["template"]["spec"]["containers"]:
                raise ValueError("it is no Job with a container")
        except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError) as error:
            raise JobError(
                f"BURNISH_KUBERNETES_JOB={self._manifest} must be the manifest of a Job: {error}"
            ) from error
        return made

    def _told(self, namespace: str, name: str) -> str:
        """The last lines of its newest pod's log."""
        pods = self._ask(
            self._core.list_namespaced_pod,
            namespace,
            label_selector=f"batch.kubernetes.io/job-name={name}",
            missing=None,
        )
        if pods is None or not pods.items:
            return ""
        newest = max(pods.items, key=lambda pod: pod.metadata.creation_timestamp).metadata.name
        read = self._core.read_namespaced_pod_log
        log = self._ask(read, newest, namespace, missing="", tail_lines=LAST_LINES) or ""
        return f" ({newest}): {' | '.join(log.splitlines())}" if log else ""

    def _ask(self, call: Any, *args: Any, missing: Any = ..., **options: Any) -> Any:
        """One request; `missing` stands for what is not there."""
        try:
            return call(*args, _request_timeout=PATIENCE_S, **options)
        except self._refused as error:
            if error.status == 404 and missing is not ...:
                return missing
            hint = " (the worker's service account may lack a role)" if error.status == 403 else ""
            raise JobError(f"Kubernetes answered {error.status} {error.reason}{hint}") from error
        except self._unreached as error:
            raise JobError(f"Kubernetes does not answer: {error}") from error


def _client() -> tuple[Any, Any]:
    """The client's module, and a connection to the cluster that this runs in or the kubeconfig names."""
    try:
        client = importlib.import_module("kubernetes.client")
        config = importlib.import_module("kubernetes.config")
    except ModuleNotFoundError as error:
        raise JobError(
            "BURNISH_UPDATE_JOB=kubernetes needs the client: pip install burnish[kubernetes]"
        ) from error
    found = client.Configuration()
    try:
        try:
            config.load_incluster_config(client_configuration=found)
        except config.ConfigException:
            config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=found)
    except config.ConfigException as error:
        raise JobError(f"no way to a Kubernetes cluster: {error}") from error
    return client, client.ApiClient(found)


def _namespace() -> str:
    """Of the pod that this runs in, else `default`."""
    mounted = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return mounted.read_text().strip() if mounted.exists() else "default"
