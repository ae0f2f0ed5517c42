"""POST /v1/chat/completions and /v1/completions.

A whole answer is sent once its interaction is durable; a stream holds back its finish chunks and
[DONE] until then. Where the spool cannot take it, the answer is sent and counted as unrecorded. When
a client disconnects its slots are freed; what a stream had sent by then is
recorded as cancelled, because feedback may refer to it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from burnish.feedback.errors import EventTooLarge
from burnish.memory import StoreError
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.chat_memory import remember
from burnish.serving.api.chat_template import AnswerParser
from burnish.serving.api.errors import ApiError, internal_error, unsupported
from burnish.serving.api.generation import Generation, GenerationRequest
from burnish.serving.api.generation_requests import chat_request, completion_request
from burnish.serving.api.json_body import Route
from burnish.serving.api.off_loop import off_loop
from burnish.serving.api.openai_requests import ChatRequest, CompletionRequest
from burnish.serving.api.openai_responses import (
    ChatFormatter,
    CompletionFormatter,
    ResponseFormatter,
    message_of,
)
from burnish.serving.api.service import Service, service_of
from burnish.serving.engine import (
    BadGrammar,
    EngineError,
    EngineFailed,
    EngineStopped,
    PromptTooLong,
    QueueFull,
    Unsupported,
)
from burnish.serving.live import UnknownModel, VersionLease, VersionUnavailable
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from redis.exceptions import RedisError

log = logging.getLogger(__name__)
T = TypeVar("T")
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


REFUSAL_S = 0.2  # how long a stream waits for the engine's refusal, which has a status of its own
_MICROSECONDS = 5  # to show a token


_STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


class Disconnected(Exception):
    """The client has disconnected; nobody reads the answer."""


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1", tags=["chat"], route_class=Route)
    chat = Depends(auth.require("chat"))

    @api.post("/chat/completions", responses=_STREAMED)
    async def chat_completions(
        body: ChatRequest, request: Request, who: Principal = chat
    ) -> Response:
        service = service_of(request)
        if body.session_id is not None:  # read and written with the answer
            who.check_scope("memory", "session_id")
        lease = await _lease(service, body.model)
        with _released_on_failure(lease):
            generation_request, in_reasoning = await chat_request(service, body, who)
        parsers = [
            AnswerParser(in_reasoning=in_reasoning, tools=generation_request.tools is not None)
            for _ in range(body.n)
        ]
        formatter = ChatFormatter(
            service.engine.tokenizer,
            logprobs=body.logprobs,
            usage=body.wants_usage,
            mode=body.logprobs_mode,
        )
        generation = Generation(service.engine, generation_request, lease, list(parsers))
        return await _answer(service, request, generation, formatter, body.stream)

    @api.post("/completions", responses=_STREAMED)
    async def completions(
        body: CompletionRequest, request: Request, who: Principal = chat
    ) -> Response:
        service = service_of(request)
        lease = await _lease(service, body.model)
        with _released_on_failure(lease):
            generation_request = await completion_request(service, body, who)
        wanted = body.logprobs is not None
        formatter = CompletionFormatter(
            service.engine.tokenizer,
            logprobs=wanted,
            usage=body.wants_usage,
            mode=body.logprobs_mode,
        )
        generation = Generation(service.engine, generation_request, lease, [None] * body.n)
        return await _answer(service, request, generation, formatter, body.stream)

    return api


async def _lease(service: Service, model: str) -> VersionLease:
    try:
        return await service.policies.acquire(model)
    except UnknownModel as error:
        message = f"The model '{model}' does not exist. GET /v1/models lists what does."
        raise ApiError(404, message, param="model", code="model_not_found") from error
    except VersionUnavailable as error:
        message = f"The model '{model}' cannot be loaded now: {error}"
        raise ApiError(
            503, message, param="model", code="model_unavailable", retry_after=2
        ) from error


@contextmanager
def _released_on_failure(lease: VersionLease) -> Iterator[None]:
    try:
        yield
    except BaseException:  # also when the client's task is cancelled
        lease.release()
        raise


async def _answer(
    service: Service,
    request: Request,
    generation: Generation,
    formatter: ResponseFormatter,
    stream: bool,
) -> Response:
    try:
        if stream:
            await _unless_disconnected(request, generation.begin(within_s=REFUSAL_S))
            return _EventStream(service, generation, formatter)
        await _unless_disconnected(request, generation.finish())
        await _record(service, generation, formatter)
        shown = generation.usage()["completion_tokens"] * (1 + generation.request.params.logprobs)
        return await off_loop(
            _MICROSECONDS * shown, lambda: JSONResponse(formatter.response(generation))
        )
    except Disconnected:
        service.metrics.interactions.labels(generation.lease.policy, "hung_up").inc()
        return Response(status_code=499)
    except (EngineError, EventTooLarge) as error:
        raise _as_api_error(error, generation.request) from error
    finally:
        if not generation.streaming:
            _close(service, generation)


def _close(service: Service, generation: Generation) -> None:
    """Release what it holds, and charge what it has used; nothing if it was refused."""
    generation.close()
    if any(choice.deltas for choice in generation.choices):
        service.budgets.spend(generation.request.account, generation.usage()["total_tokens"])


class _EventStream(StreamingResponse):
    """Server-sent events. However it ends, the generation is closed, even if it never began."""

    def __init__(self, service: Service, generation: Generation, formatter: ResponseFormatter):
        self._service, self._turn = service, generation
        self._recorded = False
        generation.streaming = True
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(
            self._events(formatter), media_type="text/event-stream; charset=utf-8", headers=headers
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            _close(self._service, self._turn)
            if not self._recorded:
                self._service.metrics.interactions.labels(
                    self._turn.lease.policy, "broken_off"
                ).inc()
                self._service.recorder.record_later(self._turn)

    async def _events(self, formatter: ResponseFormatter) -> AsyncIterator[str]:
        generation = self._turn
        try:
            # What is ready together is sent together: each yield is a system call.
            first = _events(formatter.first_chunks(generation))
            async for event in generation.events(self._service.settings.keepalive_s):
                if event is None:  # a comment, for whoever closes connections that seem dead
                    yield ": waiting\n\n"
                    continue
                if text := first + _events(formatter.chunks(generation, *event)):
                    yield text
                first = ""
            await _record(self._service, generation, formatter)
            self._recorded = True
            yield _events(formatter.last_chunks(generation)) + "data: [DONE]\n\n"
        except (EngineError, EventTooLarge) as error:
            # The status is already sent: the stream ends in an error and without [DONE].
            self._recorded = isinstance(error, EventTooLarge)  # recording it again would fail again
            yield _events([_as_api_error(error, generation.request).body()])
        except Exception:  # the client of a stream must be told as well; the log has the rest
            log.exception("the stream of %s failed", generation.request.id)
            yield _events([internal_error().body()])


async def _record(service: Service, generation: Generation, formatter: ResponseFormatter) -> None:
    """Make the interaction durable where that is possible; count it and append it to the session."""
    if any(choice.finish == "cancelled" for choice in generation.choices):
        raise EngineStopped("the server is shutting down")
    outcome = "recorded" if await service.recorder.record(generation) else "unrecorded"
    labels = (formatter.operation, generation.lease.policy)
    metrics, usage = service.metrics, generation.usage()
    metrics.interactions.labels(generation.lease.policy, outcome).inc()
    metrics.tokens.labels(generation.lease.policy, "input").inc(usage["prompt_tokens"])
    metrics.tokens.labels(generation.lease.policy, "output").inc(usage["completion_tokens"])
    metrics.duration.labels(*labels).observe(generation.seconds)
    first = generation.first_token_s or 0.0
    metrics.first_token.labels(*labels).observe(first)
    longest = max(len(choice.token_ids) for choice in generation.choices)
    if longest > 1:
        metrics.per_token.labels(*labels).observe((generation.seconds - first) / (longest - 1))
    if generation.request.session_id is not None and generation.choices[0].parser is not None:
        await _remember(service, generation)


async def _remember(service: Service, generation: Generation) -> None:
    generation_request = generation.request
    answer = message_of(generation, generation.choices[0])
    try:
        if service.disk.is_full():
            raise StoreError(str(service.disk))
        await remember(
            service.memory,
            generation_request.tenant,
            generation_request.session_id or "",
            generation_request.messages,
            answer,
            generation_request.id,
            generation_request.user,
        )
        if generation_request.view_budget:
            service.memory.background.schedule(
                generation_request.tenant,
                generation_request.session_id or "",
                generation_request.view_budget,
            )
    except (StoreError, RedisError) as error:
        # The answer is recorded; the session has a gap, which the log and a metric report.
        service.metrics.memory_errors.inc()
        log.warning(
            "session %s did not take %s: %s",
            generation_request.session_id,
            generation_request.id,
            error,
        )


def _as_api_error(error: Exception, generation_request: GenerationRequest) -> ApiError:
    match error:
        case QueueFull():
            return ApiError(
                429, f"Too many requests wait: {error}", code="queue_full", retry_after=1
            )
        case PromptTooLong():
            message = (
                f"The prompt of {len(generation_request.prompt_ids)} tokens does not fit: {error}"
            )
            return ApiError(400, message, param="messages", code="context_length_exceeded")
        case BadGrammar():
            param = "tools" if generation_request.tools else "response_format"
            return ApiError(
                400, f"This schema cannot be followed: {error}", param=param, code="invalid_schema"
            )
        case Unsupported():
            return unsupported(error.param, f"This engine does not do it: {error}")
        case EngineFailed():
            message = "The engine has failed and is started again; try again in a moment."
            return ApiError(503, message, code="engine_failed", retry_after=5)
        case EngineStopped():
            return ApiError(503, "The server is shutting down.", code="draining", retry_after=5)
        case EventTooLarge():
            return ApiError(
                400, f"This interaction is too large to record: {error}", code="too_large"
            )
    log.error("engine: %s", error)
    return ApiError(500, f"The engine failed on this request: {error}", code="engine_error")


async def _unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, or Disconnected as soon as the client disconnects."""
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Disconnected
        return task.result()
    finally:
        task.cancel()
        disconnect.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _events(contents: Iterable[dict[str, Any]]) -> str:
    return "".join(f"data: {_JSON.encode(content)}\n\n" for content in contents)
