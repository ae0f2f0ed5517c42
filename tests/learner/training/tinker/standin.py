"""A service that speaks the HTTP of the Tinker SDK, as its types describe it, and trains (service.py).

On demand it is slow, fails for a while, loses answers, or forgets.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from tinker.proto import tinker_public_pb2 as proto

from tests.learner.training.tinker.service import BASE, KEY, Gone, Run, Service


def app_of(service: Service) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def _misbehave(request: Request, go_on: Any) -> Response:
        path = request.url.path.removeprefix("/api/v1/").split("/")[0]
        service.calls[path] += 1
        key = request.headers.get("x-api-key")
        if key != (None if path in ("files", "healthz") else KEY):
            return JSONResponse({"detail": f"invalid key {key}"}, 401)
        failure = service.failures.get(path)
        if failure is None or failure.times <= 0:
            return await go_on(request)
        failure.times -= 1
        if failure.lost:
            await go_on(request)
        headers = {"retry-after-ms": "1"}
        return JSONResponse({"detail": failure.message}, failure.status, headers)

    @app.exception_handler(Gone)
    async def _gone(_: Request, error: Gone) -> Response:
        return JSONResponse({"detail": str(error)}, 404)

    constants: dict[str, dict[str, Any]] = {
        "client/config": {"fwdbwd_max_chunk_len": 3},
        "client/dynamic_config": {},
        "session_heartbeat": {"type": "session_heartbeat"},
        "telemetry": {"status": "accepted"},
    }
    for path, answer in constants.items():
        app.post(f"/api/v1/{path}")(lambda answer=answer: answer)

    @app.get("/api/v1/healthz")
    def health() -> Any:
        return {"status": "ok"}

    @app.get("/api/v1/get_server_capabilities")
    def capabilities() -> Any:
        tiny = {"model_name": BASE, "trainable": True}
        return {"supported_models": [tiny, {"model_name": "Tiny/Read-Only", "trainable": False}]}

    @app.post("/api/v1/create_session")
    def create_session() -> Any:
        return {"session_id": uuid.uuid4().hex}

    @app.post("/api/v1/sessions/{session_id}/finish")
    def finish(session_id: str) -> Any:
        service.finished.append(session_id)
        return {}

    @app.post("/api/v1/create_model")
    def create_model(body: dict[str, Any]) -> Any:
        return service.promise(lambda: service.create(body))

    @app.post("/api/v1/load_weights")
    def load_weights(body: dict[str, Any]) -> Any:
        return service.promise(lambda: service.load(body))

    @app.post("/api/v1/get_info")
    def get_info(body: dict[str, Any]) -> Any:
        rank = service.runs[body["model_id"]].adapter.spec.rank
        data = {"model_name": BASE}
        return {"model_data": data, "model_id": body["model_id"], "lora_rank": rank}

    @app.post("/api/v1/forward_backward")
    async def forward_backward(request: Request) -> Any:
        asked = proto.ForwardBackwardRequest.FromString(await request.body())
        return await run_in_threadpool(
            service.promise_in_order,
            asked.model_id,
            asked.seq_id,
            lambda run: service.forward_backward(run, asked),
        )

    def in_order(path: str, work: Callable[[dict[str, Any], Run], Any]) -> None:
        def endpoint(body: dict[str, Any]) -> Any:
            return service.promise_in_order(
                body["model_id"], body["seq_id"], lambda run: work(body, run)
            )

        app.post(f"/api/v1/{path}")(endpoint)

    in_order("optim_step", lambda body, run: service.optim_step(run, body["adam_params"]))
    in_order("save_weights", lambda b, run: service.save(b["model_id"], run, b["path"]))
    in_order("save_weights_external", lambda b, run: service.export(b["model_id"], run, b["path"]))

    @app.post("/api/v1/create_sampling_session")
    def create_sampling_session(body: dict[str, Any]) -> Any:
        assert body["base_model"] == BASE
        return {"sampling_session_id": uuid.uuid4().hex}

    @app.post("/api/v1/asample")
    def asample(body: dict[str, Any]) -> Any:
        promise = service.promise(lambda: service.base_logprobs(body))
        return {**promise, "sample_sequence_ids": [uuid.uuid4().hex]}

    @app.post("/api/v1/retrieve_future")
    def retrieve_future(body: dict[str, Any]) -> Any:
        return service.retrieve(body["request_id"])

    checkpoint = "/api/v1/training_runs/{run}/checkpoints/{kind}/{name}"

    @app.get(f"{checkpoint}/external_weights_urls")
    def urls(run: str, kind: str, name: str, request: Request) -> Any:
        files = service.checkpoints[f"tinker://{run}/{kind}/{name}"]
        signed = {file: f"{request.base_url}api/v1/files/{of}" for file, of in files.items()}
        return {"urls": signed, "expires": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}

    @app.delete(checkpoint)
    def delete(run: str, kind: str, name: str) -> Any:
        service.delete(f"tinker://{run}/{kind}/{name}")
        return {}

    @app.get("/api/v1/files/{signature}")
    def file(signature: str) -> Response:
        return Response(service.files[signature])

    return app


class Standin:
    """The service on a free port of this machine, in a thread of its own."""

    def __init__(self, service: Service) -> None:
        self.service = service
        config = uvicorn.Config(app_of(service), host="127.0.0.1", port=0, log_level="warning")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    @property
    def url(self) -> str:
        host, port = self._server.servers[0].sockets[0].getsockname()
        return f"http://{host}:{port}"

    def start(self) -> None:
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._thread.join(0.01)
        assert self._server.started, "the stand-in did not start"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
