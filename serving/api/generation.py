"""One generation: n engine requests run at once, their deltas merged and parsed.

A `Generation` owns what must be released however it ends, a disconnected client included: the
engine slots and the lease on the policy version. `close` is not a coroutine, so it
works in the middle of a cancellation. Left out: HTTP (answering.py) and recording (recorder.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from burnish.feedback.events import MemoryUsed
from burnish.serving.api.answer_parser import AnswerParser, Part, blocks
from burnish.serving.engine import (
    Delta,
    Engine,
    EngineError,
    Request,
    SamplingParams,
    Thinking,
)
from burnish.serving.engine.logits_processor import ThinkingBudget
from burnish.serving.live import VersionLease

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GenerationRequest:
    """Everything decided before the first token; recorded with the interaction."""

    id: str  # the completion id, which is the interaction id
    created: int
    model: str  # as the client wrote it
    tenant: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    n: int = 1
    deadline_s: float | None = None  # from the start; then finish reason "deadline"
    thinking: Thinking | None = None  # the model's markup, also where none was asked for
    user: str | None = None
    session_id: str | None = None
    messages: tuple[dict[str, Any], ...] = ()
    tools: tuple[dict[str, Any], ...] | None = None
    memory: MemoryUsed | None = None
    view_budget: int = 0  # tokens of the session's view; 0: none was asked for
    adopts: bool = False  # whether earlier messages go into the session too, if it holds nothing
    metadata: dict[str, Any] = field(default_factory=dict)
    account: str = ""  # whose budget its tokens are taken from


class Choice:
    """One of the n answers, as far as it has been generated."""

    def __init__(self, index: int, parser: AnswerParser | None, thinking: Thinking | None = None):
        self.index = index
        self._thinking = ThinkingBudget(thinking) if thinking is not None else None
        self.parser = parser  # None: a plain completion, text is text
        self.deltas: list[Delta] = []
        self.parts: list[Part] = []
        self.finish: str | None = None

    def add(self, delta: Delta) -> list[Part]:
        """Add a delta; returns the parts that may now be shown to the client."""
        self.deltas.append(delta)
        if self._thinking is not None:
            for token in delta.token_ids:
                self._thinking.accept(token)
        if self.parser is None:
            parts = [Part("content", delta.text)] if delta.text else []
        else:
            parts = self.parser.feed(delta.text)
            if delta.finish_reason is not None:
                parts += self.parser.finish()
        self.parts += parts
        if delta.finish_reason is not None:
            called = delta.finish_reason == "stop" and self.calls
            self.finish = "tool_calls" if called else delta.finish_reason
        return parts

    def text_of(self, kind: str) -> str:
        return "".join(part.text for part in self.parts if part.kind == kind)

    @property
    def calls(self) -> list[Part]:
        return [part for part in self.blocks if part.kind == "tool_call"]

    @property
    def blocks(self) -> list[Part]:
        """Its texts and calls, in order."""
        return blocks(self.parts)

    @property
    def stopped_by(self) -> str:
        """The stop string that ended it."""
        return self.deltas[-1].stopped_by if self.deltas else ""

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def reasoning_tokens(self) -> int:
        """How many of the tokens were thinking, including its tags."""
        return 0 if self._thinking is None else self._thinking.tokens

    @property
    def token_ids(self) -> list[int]:
        return [token for delta in self.deltas for token in delta.token_ids]


class Generation:
    """Runs a request. Iterate `events`, and call `close` in every case."""

    def __init__(
        self,
        engine: Engine,
        request: GenerationRequest,
        lease: VersionLease,
        parsers: list[AnswerParser | None],
    ):
        self.request = request
        self.lease = lease
        self.choices = [Choice(i, p, request.thinking) for i, p in enumerate(parsers)]
        self.started = time.monotonic()
        self.first_token_s: float | None = None
        self.streaming = False  # a streaming response is responsible for closing it
        self._engine = engine
        self._queue: asyncio.Queue[tuple[int, Delta | EngineError]] = asyncio.Queue()
        self._first: tuple[int, Delta | EngineError] | None = None
        self._pumps = [self._start_pump(index) for index in range(request.n)]

    async def begin(self, within_s: float | None = None) -> None:
        """Wait for the first delta, but no longer; raises the engine's refusal while a status can
        still be sent."""
        self._first = await self._next(within_s)
        if self._first is not None and isinstance(self._first[1], EngineError):
            raise self._first[1]

    async def events(
        self, idle_s: float | None = None
    ) -> AsyncIterator[tuple[Choice, Delta, list[Part]] | None]:
        """Each delta with its choice and the parts to show, until all choices have finished; None
        whenever nothing has come for `idle_s`."""
        while any(choice.finish is None for choice in self.choices):
            got = self._first or await self._next(idle_s)
            self._first = None
            if got is None:
                yield None
                continue
            index, item = got
            choice = self.choices[index]
            if isinstance(item, EngineError):
                if choice.finish is None:
                    raise item
                continue  # what came after its end is nothing to the reader
            yield choice, item, choice.add(item)

    async def _next(self, within_s: float | None) -> tuple[int, Delta | EngineError] | None:
        if self._queue.empty():
            try:
                async with asyncio.timeout(within_s):
                    got = await self._queue.get()
            except TimeoutError:
                return None
        else:
            got = self._queue.get_nowait()
        if self.first_token_s is None:
            self.first_token_s = time.monotonic() - self.started
        return got

    async def finish(self) -> None:
        """Run to the end, keeping the choices."""
        async for _ in self.events():
            pass

    def close(self) -> None:
        """Release the slots and the policy version. May be called at any time, repeatedly."""
        for pump in self._pumps:
            pump.cancel()
        self.lease.release()

    def mark_cancelled(self) -> None:
        """Give every unfinished choice the finish reason "cancelled", for the record."""
        for choice in self.choices:
            if choice.finish is None:
                choice.finish = "cancelled"

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def cached_tokens(self) -> int:
        """Of the prompt, found in the cache when the first choice was computed."""
        return self.choices[0].deltas[0].cached_tokens if self.choices[0].deltas else 0

    @property
    def waits(self) -> bool:
        """Whether nothing has come yet."""
        return self._first is None and self._queue.empty()

    def usage(self) -> dict[str, Any]:
        prompt = len(self.request.prompt_ids)
        completion = sum(len(choice.token_ids) for choice in self.choices)
        reasoning = sum(choice.reasoning_tokens for choice in self.choices)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }

    def _start_pump(self, index: int) -> asyncio.Task[None]:
        pump = asyncio.create_task(self._pump(index))
        pump.add_done_callback(partial(self._pump_ended, index))
        return pump

    def _pump_ended(self, index: int, pump: asyncio.Task[None]) -> None:
        """Whatever ended a choice before its finish is an error, or its reader would wait for ever."""
        error = None if pump.cancelled() else pump.exception()
        if error is None:
            error = EngineError("the engine ended the answer in the middle")
        if not isinstance(error, EngineError):
            log.error("the engine failed on %s", self.request.id, exc_info=error)
            error = EngineError(f"{type(error).__name__}; the log says more")
        self._queue.put_nowait((index, error))

    async def _pump(self, index: int) -> None:
        request = self.request
        params = request.params
        if params.seed is not None and index:
            params = replace(params, seed=params.seed + index)  # n answers, not one n times
        engine_request = Request(
            f"{request.id}-{index}",
            request.prompt_ids,
            params,
            self.lease.adapter,
            tenant=request.tenant,
            deadline_s=request.deadline_s,
        )
        async with aclosing(self._engine.generate(engine_request)) as deltas:  # type: ignore[type-var]
            async for delta in deltas:
                self._queue.put_nowait((index, delta))
