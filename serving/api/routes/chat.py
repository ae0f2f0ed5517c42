"""POST /v1/chat/completions and /v1/completions.

A whole answer is sent once its interaction is durable; a stream holds back its finish chunks and
[DONE] until then. A client that hangs up frees its slots; what a stream had shown by then is
recorded as cancelled, because feedback may refer to it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from burnish.feedback.errors import EventTooLarge, FeedbackError, SpoolFull
from burnish.memory import StoreError
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.chat_template import AnswerParser
from burnish.serving.api.errors import ApiError, unsupported
from burnish.serving.api.generation import Generation, GenerationRequest
from burnish.serving.api.openai_types import ChatRequest, CompletionRequest
from burnish.serving.api.recall import remember
from burnish.serving.api.requests import chat_question, text_question
from burnish.serving.api.responses import ChatShape, Shape, TextShape, message_of
from burnish.serving.api.service import Service, service_of
from burnish.serving.engine import (
    BadGrammar,
    EngineError,
    EngineStopped,
    PromptTooLong,
    QueueFull,
    Unsupported,
)
from burnish.serving.live.adapters import VersionUnavailable
from burnish.serving.live.policies import UnknownModel, VersionLease
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from redis.exceptions import RedisError

log = logging.getLogger(__name__)
T = TypeVar("T")
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class HungUp(Exception):
    """The client has gone; nobody reads the answer."""


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1", tags=["chat"])
    chat = Depends(auth.require("chat"))

    @api.post("/chat/completions")
    async def chat_completions(
        body: ChatRequest, request: Request, who: Principal = chat
    ) -> Response:
        service = service_of(request)
        lease = await _lease(service, body.model)
        with _released_on_failure(lease):
            question, in_reasoning = await chat_question(service, body, who)
        parsers = [
            AnswerParser(in_reasoning=in_reasoning, tools=question.tools is not None)
            for _ in range(body.n)
        ]
        shape = ChatShape(
            service.engine.tokenizer,
            logprobs=body.logprobs,
            usage=body.wants_usage,
            mode=body.logprobs_mode,
        )
        turn = Generation(service.engine, question, lease, list(parsers))
        return await _answer(service, request, turn, shape, body.stream)

    @api.post("/completions")
    async def completions(
        body: CompletionRequest, request: Request, who: Principal = chat
    ) -> Response:
        service = service_of(request)
        lease = await _lease(service, body.model)
        with _released_on_failure(lease):
            question = text_question(service, body, who)
        wanted = body.logprobs is not None
        shape = TextShape(
            service.engine.tokenizer,
            logprobs=wanted,
            usage=body.wants_usage,
            mode=body.logprobs_mode,
        )
        turn = Generation(service.engine, question, lease, [None] * body.n)
        return await _answer(service, request, turn, shape, body.stream)

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
    service: Service, request: Request, turn: Generation, shape: Shape, stream: bool
) -> Response:
    try:
        await _unless_hung_up(request, turn.begin())
        if stream:
            return _EventStream(service, turn, shape)
        await _unless_hung_up(request, turn.finish())
        await _settle(service, turn, shape)
        return JSONResponse(shape.whole(turn))
    except HungUp:
        service.metrics.interactions.labels(turn.lease.policy, "hung_up").inc()
        return Response(status_code=499)
    except (EngineError, FeedbackError) as error:
        raise _as_api_error(error, turn.question) from error
    finally:
        if not stream or not turn.streaming:
            turn.close()


class _EventStream(StreamingResponse):
    """Server-sent events. However it ends, the turn is closed, even if it was never begun."""

    def __init__(self, service: Service, turn: Generation, shape: Shape):
        self._service, self._turn = service, turn
        self._settled = False
        turn.streaming = True
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(
            self._events(shape), media_type="text/event-stream; charset=utf-8", headers=headers
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._turn.close()
            if not self._settled:
                self._service.metrics.interactions.labels(
                    self._turn.lease.policy, "broken_off"
                ).inc()
                self._service.recorder.record_later(self._turn)

    async def _events(self, shape: Shape) -> AsyncIterator[str]:
        turn = self._turn
        try:
            # What is there at one time is sent at one time: each yield is a system call.
            opening = _events(shape.opening(turn))
            async for choice, delta, parts in turn.events():
                if text := opening + _events(shape.chunks(turn, choice, delta, parts)):
                    yield text
                opening = ""
            await _settle(self._service, turn, shape)
            self._settled = True
            yield _events(shape.closing(turn)) + "data: [DONE]\n\n"
        except (EngineError, FeedbackError) as error:
            # The status line is long gone: the stream ends in an error and without [DONE].
            self._settled = isinstance(error, FeedbackError)  # no use in trying that again
            yield _events([_as_api_error(error, turn.question).body()])


async def _settle(service: Service, turn: Generation, shape: Shape) -> None:
    """Make the interaction durable; then count it and let memory have it."""
    if any(choice.finish == "cancelled" for choice in turn.choices):
        raise EngineStopped("the server is shutting down")
    await service.recorder.record(turn)
    labels = (shape.operation, turn.lease.policy)
    metrics, usage = service.metrics, turn.usage()
    metrics.interactions.labels(turn.lease.policy, "recorded").inc()
    metrics.tokens.labels(turn.lease.policy, "input").inc(usage["prompt_tokens"])
    metrics.tokens.labels(turn.lease.policy, "output").inc(usage["completion_tokens"])
    metrics.duration.labels(*labels).observe(turn.seconds)
    first = turn.first_token_s or 0.0
    metrics.first_token.labels(*labels).observe(first)
    longest = max(len(choice.token_ids) for choice in turn.choices)
    if longest > 1:
        metrics.per_token.labels(*labels).observe((turn.seconds - first) / (longest - 1))
    if turn.question.session_id is not None and turn.choices[0].parser is not None:
        await _remember(service, turn)


async def _remember(service: Service, turn: Generation) -> None:
    question = turn.question
    answer = message_of(turn, turn.choices[0])
    try:
        await remember(
            service.memory,
            question.tenant,
            question.session_id or "",
            question.messages,
            answer,
            question.id,
            question.user,
        )
        if question.view_budget:
            service.memory.background.schedule(
                question.tenant, question.session_id or "", question.view_budget
            )
    except (StoreError, RedisError) as error:
        # The answer is given and recorded; the session has a gap, which the log and a count tell.
        service.metrics.memory_errors.inc()
        log.warning("session %s did not take %s: %s", question.session_id, question.id, error)


def _as_api_error(error: Exception, question: GenerationRequest) -> ApiError:
    match error:
        case QueueFull():
            return ApiError(
                429, f"Too many requests wait: {error}", code="queue_full", retry_after=1
            )
        case PromptTooLong():
            message = f"The prompt of {len(question.prompt_ids)} tokens does not fit: {error}"
            return ApiError(400, message, param="messages", code="context_length_exceeded")
        case BadGrammar():
            param = "tools" if question.tools else "response_format"
            return ApiError(
                400, f"This schema cannot be followed: {error}", param=param, code="invalid_schema"
            )
        case Unsupported():
            return unsupported(error.param, f"This engine does not do it: {error}")
        case EngineStopped():
            return ApiError(503, "The server is shutting down.", code="draining", retry_after=5)
        case SpoolFull():
            message = f"The answer could not be recorded, the spool is full: {error}"
            return ApiError(503, message, code="spool_full", retry_after=10)
        case EventTooLarge():
            return ApiError(
                400, f"This interaction is too large to record: {error}", code="too_large"
            )
        case FeedbackError():
            return ApiError(503, f"The answer could not be recorded: {error}", code="spool_failed")
    log.error("engine: %s", error)
    return ApiError(500, f"The engine failed on this request: {error}", code="engine_error")


async def _unless_hung_up(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, or HungUp as soon as the client disconnects."""
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise HungUp
        return doing.result()
    finally:
        doing.cancel()
        leaving.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _events(contents: Iterable[dict[str, Any]]) -> str:
    return "".join(f"data: {_JSON.encode(content)}\n\n" for content in contents)
