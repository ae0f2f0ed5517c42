"""A server with the part of vLLM's documented HTTP API that the engine protocol needs.

What it answers comes from an engine of our own, so it is real; what it accepts is vLLM's request,
and a field vLLM does not document is refused, which vLLM itself would pass over in silence.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import uvicorn
from burnish.serving.engine import (
    LocalEngine,
    PromptTooLong,
    QueueFull,
    Request,
    SamplingParams,
    StubEngine,
    json_grammar,
)
from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

BASE = "tiny"
INT64 = 2**63
E = TypeVar("E", LocalEngine, StubEngine)


class Edge(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Structured(Edge):
    json_: dict[str, Any] | None = Field(default=None, alias="json")
    grammar: str | None = None


class Completion(Edge):
    model: str
    prompt: list[int]
    stream: Literal[True]
    max_tokens: Annotated[int, Field(ge=1)]
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: Annotated[int, Field(ge=-INT64, lt=INT64)]
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: Annotated[float, Field(gt=0)]
    logprobs: Annotated[int, Field(ge=0, le=20)]
    ignore_eos: bool
    return_token_ids: Literal[True]
    return_tokens_as_token_ids: Literal[True]
    skip_special_tokens: bool
    stop: list[str] = []
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = {}
    priority: int = 0
    structured_outputs: Structured | None = None


class LoadLora(Edge):
    lora_name: Annotated[str, Field(min_length=1)]
    lora_path: Annotated[str, Field(min_length=1)]


class UnloadLora(Edge):
    lora_name: str


def failure(status: int, message: str, kind: str = "BadRequestError") -> JSONResponse:
    error = {"message": message, "type": kind, "param": None, "code": status}
    return JSONResponse({"error": error}, status)


def standin(behind: Standin[Any]) -> FastAPI:
    engine = behind.engine

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        yield
        await engine.stop(drain=False)

    app = FastAPI(lifespan=life)

    @app.middleware("http")
    async def _key(request: HttpRequest, go_on: Any) -> Response:
        while behind.frozen:  # noqa: ASYNC110 - thawed by another thread
            await asyncio.sleep(0.002)
        secret = request.url.path.startswith("/v1")
        if secret and request.headers.get("authorization") != f"Bearer {behind.key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        return await go_on(request)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: HttpRequest, error: RequestValidationError) -> JSONResponse:
        return failure(400, str(error.errors()))

    @app.get("/health")
    async def health() -> Response:
        return Response(status_code=200 if behind.healthy else 503)

    @app.get("/load")
    async def load_metrics() -> dict[str, int]:
        return {"server_load": behind.load}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        base = {"id": BASE, "object": "model", "root": "/models/tiny", "parent": None}
        loras = [
            {"id": name, "object": "model", "root": "/somewhere", "parent": BASE}
            for name in engine.adapters
        ]
        cards = [*loras, {**base, "max_model_len": engine.max_model_len}]
        return {"object": "list", "data": cards}

    @app.post("/v1/load_lora_adapter")
    async def load(body: LoadLora) -> Response:
        if body.lora_name in engine.adapters:
            message = f"The lora adapter '{body.lora_name}' has already been loaded."
            return failure(400, message, "InvalidUserInput")
        try:
            await asyncio.to_thread(engine.load_adapter, body.lora_name, Path(body.lora_path))
        except ValueError as error:
            return failure(400, str(error))
        return Response(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    @app.post("/v1/unload_lora_adapter")
    async def unload(body: UnloadLora) -> Response:
        if body.lora_name not in engine.adapters:
            return failure(404, f"The lora adapter '{body.lora_name}' cannot be found.")
        await asyncio.to_thread(engine.unload_adapter, body.lora_name)
        return Response(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    @app.post("/v1/completions")
    async def completions(body: Completion) -> Response:
        if body.model not in (BASE, *engine.adapters):
            return failure(404, f"The model `{body.model}` does not exist.", "NotFoundError")
        deltas = engine.generate(_request(body))
        try:
            first = await anext(deltas)
        except PromptTooLong as error:
            return failure(400, f"This model's maximum context length is exceeded: {error}")
        except ValueError as error:
            return failure(400, str(error))
        except QueueFull as error:
            return failure(429, str(error))
        return StreamingResponse(_events(body, first, deltas), media_type="text/event-stream")

    return app


def _request(body: Completion) -> Request:
    structured, grammar = body.structured_outputs, ""
    if structured is not None:
        grammar = structured.grammar or json_grammar(structured.json_ or {})
    params = SamplingParams(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        seed=body.seed,
        max_tokens=body.max_tokens,
        stop=tuple(body.stop),
        logprobs=body.logprobs,
        logit_bias={int(token): value for token, value in body.logit_bias.items()},
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=body.repetition_penalty,
        ignore_eos=body.ignore_eos,
        grammar=grammar,
    )
    adapter = None if body.model == BASE else body.model
    return Request("standin", tuple(body.prompt), params, adapter, priority=-body.priority)


async def _events(body: Completion, first: Any, deltas: Any) -> AsyncIterator[str]:
    delta, opening = first, {"prompt_token_ids": body.prompt}
    try:
        while True:
            tops = delta.top or ((),) * len(delta.token_ids)
            logprobs = {
                "text_offset": [0] * len(delta.token_ids),
                "tokens": [f"token_id:{token}" for token in delta.token_ids],
                "token_logprobs": list(delta.logprobs),
                "top_logprobs": [  # the drawn token comes first, the best ones follow
                    {f"token_id:{t}": p for t, p in ((token, logprob), *top)}
                    for token, logprob, top in zip(
                        delta.token_ids, delta.logprobs, tops, strict=True
                    )
                ],
            }
            finish = delta.finish_reason
            choice = {
                "index": 0,
                "text": delta.text,
                "logprobs": logprobs,
                "finish_reason": "abort" if finish == "cancelled" else finish,
                "stop_reason": None,
                "token_ids": list(delta.token_ids),
                **opening,
            }
            chunk = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": body.model}
            yield f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\n"
            opening = {}
            if finish is not None:
                break
            delta = await anext(deltas)
        yield "data: [DONE]\n\n"
    finally:
        await deltas.aclose()


class Standin(Generic[E]):
    """The server on a port of this machine, in a thread of its own.

    The attributes may be changed while it runs. `frozen`: it accepts requests and says nothing.
    """

    def __init__(self, engine: E, key: str = "key", port: int = 0) -> None:
        self.engine, self.key, self.port = engine, key, port
        self.frozen, self.healthy = False, True
        self.load = 0  # what it reports as its requests
        config = uvicorn.Config(standin(self), port=port, log_level="critical")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._thread.join(0.01)
        assert self._server.started, "the stand-in did not start"
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self.frozen = False
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def kill(self) -> None:
        """Reset its connections, and end without another word."""

        def reset() -> None:
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()  # type: ignore[union-attr]

        self._server.force_exit = True
        self._server.servers[0].get_loop().call_soon_threadsafe(reset)
        self.stop()
