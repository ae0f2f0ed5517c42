"""From a request to its response: a generation is started, recorded, and sent whole or as events.

Every shape of the API comes through here; a `Formatter` says how its responses look. A whole answer
is sent once its interaction is durable; a stream holds back its last events until then. Where
the spool cannot take it, the answer is sent and counted as unrecorded. When a client disconnects its
slots are freed; what a stream had sent by then is recorded as cancelled, because feedback may
refer to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar, Unpack

from burnish.feedback.errors import EventTooLarge
from burnish.memory import StoreError
from burnish.serving.api import best_of
from burnish.serving.api.answer_parser import AnswerParser, Part
from burnish.serving.api.arms import arm_headers, count_arm, count_failure
from burnish.serving.api.auth import Principal
from burnish.serving.api.chat_formatters import message_of
from burnish.serving.api.chat_memory import adopt, remember
from burnish.serving.api.chat_requests import ChatRequest
from burnish.serving.api.chat_span import trace_generation
from burnish.serving.api.errors import ApiError, internal_error, unsupported
from burnish.serving.api.generation import Choice, Generation, GenerationRequest
from burnish.serving.api.generation_requests import How, chat_request
from burnish.serving.api.off_loop import off_loop
from burnish.serving.api.service import Service
from burnish.serving.api.sse import COMMENT, Event, text_of
from burnish.serving.engine import (
    BadGrammar,
    Delta,
    EngineError,
    EngineFailed,
    EngineStopped,
    PromptTooLong,
    QueueFull,
    Unsupported,
)
from burnish.serving.live import UnknownModel, VersionLease, VersionUnavailable
from fastapi import Request, Response
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError
from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)
T = TypeVar("T")

REFUSAL_S = 0.02  # how long a stream waits for the engine's refusal, which has a status of its own
_MICROSECONDS = 5  # to show a token

STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
"""What the description of a route says that may stream."""

Keep = Callable[[Generation], Awaitable[None]]


class Formatter(Protocol):
    """One API's shape of a generation. It is made for one, and may keep what it has sent."""

    operation: str  # for metrics
    names: Mapping[str, str]  # of a chat request's fields, where this API calls them otherwise
    done: str  # what is sent after the last event

    def response(self, generation: Generation) -> Event: ...

    def first_events(self, generation: Generation) -> list[Event]:
        """Events before the first delta."""
        ...

    def events(
        self, generation: Generation, choice: Choice, delta: Delta, parts: list[Part]
    ) -> Sequence[Event | str]:
        """Those of a delta; a string is one that is encoded already."""
        ...

    def last_events(self, generation: Generation) -> list[Event]: ...

    def error_events(self, generation: Generation, error: ApiError) -> list[Event]:
        """How a stream ends that has failed."""
        ...


class Disconnected(Exception):
    """The client has disconnected; nobody reads the answer."""


@contextmanager
def released_on_failure(lease: VersionLease) -> Iterator[None]:
    """Releases the lease where what is done within fails."""
    try:
        yield
    except BaseException:  # also when the client's task is cancelled
        lease.release()
        raise


async def lease_of(
    service: Service, model: str, who: Principal, user: str | None, session: str | None = None
) -> VersionLease:
    """The version that answers an end user's request for `model`, held. A key's session stands for a user
    who is not named. Raises ApiError."""
    person = None if user is None else f"{who.tenant}/{user}"
    if person is None and session is not None:
        person = f"{who.tenant}/{who.account}/session/{session}"
    try:
        return await service.policies.acquire(model, person)
    except UnknownModel as error:
        message = f"The model '{model}' does not exist. GET /v1/models lists what does."
        raise ApiError(404, message, param="model", code="model_not_found") from error
    except VersionUnavailable as error:
        message = f"The model '{model}' cannot be loaded now: {error}"
        raise ApiError(
            503, message, param="model", code="model_unavailable", retry_after=2
        ) from error


async def start_chat(
    service: Service, body: ChatRequest, who: Principal, **how: Unpack[How]
) -> Generation:
    """Start to generate the answers to a conversation; they are the caller's to close. `how` is
    what `chat_request` takes. Raises ApiError."""
    best_of.check(service, body)
    lease = await lease_of(service, body.model, who, body.end_user, body.session_id)
    with released_on_failure(lease):
        request, in_reasoning = await chat_request(service, body, who, **how)
        chooser = best_of.chooser_of(service, body, request, lease.policy)
    tools = request.tools is not None
    count = request.n if chooser is None else chooser.candidates
    parsers = [AnswerParser(in_reasoning=in_reasoning, tools=tools) for _ in range(count)]
    return Generation(service.engine, request, lease, list(parsers), chooser)


async def answer(
    service: Service,
    request: Request,
    generation: Generation,
    formatter: Formatter,
    *,
    stream: bool,
    keep: Keep | None = None,
    more: Sequence[Generation] = (),
) -> Response:
    """The response of a generation, which is closed however this ends. `keep` is called once the
    interaction has been recorded and before the client is told that it is whole. `more` are answered
    in the same response, which is no stream."""
    generations = [generation, *more]
    try:
        if stream:
            await _unless_disconnected(request.receive, generation.begin(within_s=REFUSAL_S))
            return _EventStream(service, generation, formatter, keep)
        finished = asyncio.gather(*(each.finish() for each in generations))
        await _unless_disconnected(request.receive, finished)
        for each in generations:
            await _record(service, each, formatter, keep)
        params, usage = generation.request.params, [each.usage() for each in generations]
        shown = sum(each["completion_tokens"] for each in usage) * (1 + params.logprobs)
        if params.prompt_logprobs is not None:
            shown += sum(each["prompt_tokens"] for each in usage) * (1 + params.prompt_logprobs)
        headers = arm_headers(generation.lease)
        return await off_loop(
            _MICROSECONDS * shown,
            lambda: JSONResponse(formatter.response(generation), headers=headers),
        )
    except Disconnected:
        service.metrics.interactions.labels(generation.lease.policy, "hung_up").inc()
        return Response(status_code=499)
    except (EngineError, EventTooLarge) as error:
        told = _as_api_error(error, generation.request).renamed(formatter.names)
        for each in generations:
            count_failure(service, each.lease, told)
        raise told from error
    finally:
        if not generation.streaming:
            for each in generations:
                _close(service, each, formatter)


def _close(service: Service, generation: Generation, formatter: Formatter) -> None:
    """Release what it holds, and charge what it has used; nothing if it was refused."""
    generation.close()
    trace_generation(generation, formatter.operation)
    if any(choice.deltas for choice in generation.candidates):
        # Candidates that are not given cost as much as those that are.
        used = len(generation.request.prompt_ids) + generation.generated_tokens
        service.budgets.spend(generation.request.account, used)


class _EventStream(Response):
    """Server-sent events. However it ends, the generation is closed, even if it never began."""

    def __init__(
        self, service: Service, generation: Generation, formatter: Formatter, keep: Keep | None
    ):
        self._service, self._turn, self._keep = service, generation, keep
        self._formatter = formatter
        self._recorded = False
        generation.streaming = True
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        headers |= arm_headers(generation.lease)
        super().__init__(media_type="text/event-stream; charset=utf-8", headers=headers)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            with suppress(Disconnected):
                await _unless_disconnected(receive, self._send_all(send))
        finally:
            _close(self._service, self._turn, self._formatter)
            if not self._recorded:
                self._service.metrics.interactions.labels(
                    self._turn.lease.policy, "broken_off"
                ).inc()
                self._service.recorder.record_later(self._turn)

    async def _send_all(self, send: Send) -> None:
        async def write(text: str) -> None:
            if text:
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        generation, formatter = self._turn, self._formatter
        try:
            last = await self._send_events(write)
        except (EngineError, EventTooLarge) as error:
            # The status is already sent: the stream ends in an error and without its usual end.
            self._recorded = isinstance(error, EventTooLarge)  # recording it again would fail again
            told = _as_api_error(error, generation.request).renamed(formatter.names)
            count_failure(self._service, generation.lease, told)
            last = text_of(formatter.error_events(generation, told))
        except Exception:  # the client of a stream must be told as well; the log has the rest
            log.exception("the stream of %s failed", generation.request.id)
            last = text_of(formatter.error_events(generation, internal_error()))
        await send({"type": "http.response.body", "body": last.encode(), "more_body": False})

    async def _send_events(self, write: Callable[[str], Awaitable[None]]) -> str:
        """Send all but the last events, and return those. What is ready together is sent together:
        each write is a system call."""
        generation, formatter = self._turn, self._formatter
        first = text_of(formatter.first_events(generation))
        if generation.waits:  # a client may give up on a prompt that takes long
            await write(first)
            first = ""
        async for new in generation.events(self._service.settings.keepalive_s):
            if not new:  # for whoever closes connections that seem dead
                await write(COMMENT)
                continue
            events = [event for each in new for event in formatter.events(generation, *each)]
            await write(first + text_of(events))
            first = ""
        await _record(self._service, generation, formatter, self._keep)
        self._recorded = True
        return text_of(formatter.last_events(generation)) + formatter.done


async def _record(
    service: Service, generation: Generation, formatter: Formatter, keep: Keep | None
) -> None:
    """Make the interaction durable where that is possible; count it and append it to the session."""
    if any(choice.finish == "cancelled" for choice in generation.choices):
        raise EngineStopped("the server is shutting down")
    outcome = await service.recorder.record(generation)
    labels = (formatter.operation, generation.lease.policy)
    metrics, usage = service.metrics, generation.usage()
    metrics.interactions.labels(generation.lease.policy, outcome).inc()
    count_arm(metrics, generation.lease, "answered")
    metrics.tokens.labels(generation.lease.policy, "input").inc(usage["prompt_tokens"])
    metrics.tokens.labels(generation.lease.policy, "output").inc(generation.generated_tokens)
    metrics.duration.labels(*labels).observe(generation.seconds)
    first = generation.first_token_s or 0.0
    metrics.first_token.labels(*labels).observe(first)
    longest = max(len(choice.token_ids) for choice in generation.candidates)
    if longest > 1:
        metrics.per_token.labels(*labels).observe((generation.seconds - first) / (longest - 1))
    if generation.request.session_id is not None and generation.choices[0].parser is not None:
        await in_memory(service, generation, _remember(service, generation))
    if keep is not None:
        await keep(generation)


async def in_memory(service: Service, generation: Generation, work: Awaitable[Any]) -> bool:
    """Do what is to be done in memory, if it can be; an answer that memory does not take is sent
    all the same, and the log and a metric report the gap. Whether it was done."""
    try:
        await work
    except (StoreError, RedisError, ApiError) as error:
        service.metrics.memory_errors.inc()
        request = generation.request
        log.warning("session %s did not take %s: %s", request.session_id, request.id, error)
        return False
    return True


async def _remember(service: Service, generation: Generation) -> None:
    request = generation.request
    session, user = request.session_id or "", request.user
    if service.disk.is_full():
        raise StoreError(str(service.disk))
    if request.adopts:
        await adopt(service.memory, request.tenant, session, request.messages, user)
    await remember(
        service.memory,
        request.tenant,
        session,
        request.messages,
        message_of(generation, generation.choices[0]),
        request.id,
        user,
        whole=request.session_whole,
    )
    if request.view_budget:
        service.memory.background.schedule(request.tenant, session, request.view_budget)


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


async def _unless_disconnected(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`, or Disconnected as soon as the client disconnects."""
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Disconnected
        return task.result()
    finally:
        task.cancel()
        disconnect.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
