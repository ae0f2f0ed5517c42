"""A stand-in of the Kubernetes API: Jobs of batch/v1 and their pods, run as processes of this machine.

It answers the calls that a client needs to hand in a Job, ask after it, read its log and delete it, as the
API reference documents them. No scheduler, no controller: a Job's command begins when it is created.
"""

import subprocess
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from tests.conftest import free_port


class KubernetesApi:
    """`manifests` are the Jobs as they were created; `refuse` a status that every call gets."""

    def __init__(self, folder: Path, token: str = "secret") -> None:
        self.manifests: list[dict[str, Any]] = []
        self.refuse: int | None = None
        self._folder, self._token, self._port = folder, token, free_port()
        self._running: dict[str, tuple[subprocess.Popen[bytes], Path, datetime]] = {}
        config = uvicorn.Config(self._app(), port=self._port, log_level="error")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    def start(self) -> None:
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            threading.Event().wait(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        for process, _, _ in self._running.values():
            process.kill()
            process.wait()

    def forget(self) -> None:
        """As a Job's time to live does."""
        self._running.clear()

    def kubeconfig(self) -> Path:
        """A file that leads here, with a valid token."""
        path = self._folder / "kubeconfig"
        server = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self._port}"}}
        user = {"name": "u", "user": {"token": self._token}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        content = {"clusters": [server], "users": [user], "contexts": [context]}
        path.write_text(yaml.safe_dump({**content, "current-context": "x"}))
        return path

    def _run(self, name: str, command: list[str]) -> None:
        log = Path(tempfile.mkstemp(dir=self._folder)[1])
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out)
        self._running[name] = (process, log, datetime.now(UTC))

    def _app(self) -> FastAPI:
        app = FastAPI()
        jobs = "/apis/batch/v1/namespaces/{namespace}/jobs"
        pods = "/api/v1/namespaces/{namespace}/pods"

        @app.middleware("http")
        async def check(request: Request, call: Any) -> Any:
            if request.headers.get("authorization") != f"Bearer {self._token}":
                return JSONResponse({"reason": "Unauthorized"}, 401)
            if self.refuse:
                return JSONResponse({"reason": "Forbidden"}, self.refuse)
            return await call(request)

        @app.post(jobs, status_code=201)
        async def create(namespace: str, request: Request) -> Any:
            made = await request.json()
            name = f"{made['metadata']['generateName']}{len(self.manifests)}"
            made["metadata"] |= {"name": name, "namespace": namespace}
            self.manifests.append(made)
            self._run(name, made["spec"]["template"]["spec"]["containers"][0]["command"])
            return made

        @app.get(jobs + "/{name}/status")
        async def status(namespace: str, name: str) -> Any:
            if name not in self._running:
                return JSONResponse({"reason": "NotFound"}, 404)
            code = self._running[name][0].poll()
            told: dict[str, Any] = {"ready": 1, "active": 1} if code is None else {}
            if code == 0:
                told["conditions"] = [{"type": "Complete", "status": "True"}]
            elif code is not None:
                why = {"reason": "BackoffLimitExceeded", "message": "Job has reached the limit"}
                told["conditions"] = [{"type": "Failed", "status": "True", **why}]
            return {"metadata": {"name": name, "namespace": namespace}, "status": told}

        @app.delete(jobs + "/{name}")
        async def delete(namespace: str, name: str) -> Any:
            if name not in self._running:
                return JSONResponse({"reason": "NotFound"}, 404)
            process, _, _ = self._running.pop(name)
            process.kill()
            process.wait()
            return {"status": "Success"}

        @app.get(pods)
        async def list_pods(namespace: str, labelSelector: str) -> Any:
            name = labelSelector.partition("=")[2]
            if name not in self._running:
                return {"items": []}
            created = self._running[name][2].isoformat()
            return {"items": [{"metadata": {"name": f"{name}-p", "creationTimestamp": created}}]}

        @app.get(pods + "/{pod}/log")
        async def log(namespace: str, pod: str, tailLines: int) -> Any:
            lines = self._running[pod.removesuffix("-p")][1].read_text().splitlines()
            return PlainTextResponse("\n".join(lines[-tailLines:]) + "\n")

        return app
