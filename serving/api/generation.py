"""One generation: n engine requests run at once, or more of which n are chosen, their deltas merged and
parsed.

A `Generation` owns what must be released however it ends, a disconnected client included: the
engine slots and the lease on the policy version. `close` is not a coroutine, so it
works in the middle of a cancellation. Left out: HTTP (answering.py) and recording (recorder.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from burnish.feedback.events import BestOf, MemoryUsed
from burnish.feedback.ids import is_recorded
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
    session_whole: bool = False  # whether the messages are all of the session's
    messages: tuple[dict[str, Any], ...] = ()
    tools: tuple[dict[str, Any], ...] | None = None
    memory: MemoryUsed | None = None
    view_budget: int = 0  # tokens of the session's view; 0: none was asked for
    adopts: bool = False  # whether earlier messages go into the session too, if it holds nothing
    metadata: dict[str, Any] = field(default_factory=dict)
    account: str = ""  # whose budget its tokens are taken from

    @property
    def recorded(self) -> bool:
        """Whether it is recorded; not where the client has opted out."""
        return is_recorded(self.id)


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


class Chooser(Protocol):
    """Chooses the answers that are given among more candidates (best_of.py)."""

    @property
    def record(self) -> BestOf | None:
        """How it went; None while nothing was decided."""
        ...

    async def choose(self, candidates: Sequence[Choice]) -> list[Choice]:
        """As many as were asked for."""
        ...


class Generation:
    """Runs a request. Iterate `events`, and call `close` in every case.

    There are as many `candidates` as `parsers`; where those are more than the request's n, nothing of the
    answers is told until `chooser` has chosen them. A candidate beyond n that fails is done without.
    """

    def __init__(
        self,
        engine: Engine,
        request: GenerationRequest,
        lease: VersionLease,
        parsers: list[AnswerParser | None],
        chooser: Chooser | None = None,
    ):
        self.request = request
        self.lease = lease
        self.candidates = [Choice(i, p, request.thinking) for i, p in enumerate(parsers)]
        self.choices = self.candidates[: request.n]
        self._chooser = chooser
        self.started = time.monotonic()
        self.first_token_s: float | None = None
        self.streaming = False  # a streaming response is responsible for closing it
        self._engine = engine
        self._arrived: dict[int, list[Delta | EngineError]] = {}  # by candidate
        self._ended: set[int] = set()  # those of which all has arrived
        self._lost: set[int] = set()  # those that are done without
        self._waiter: asyncio.Future[None] | None = None
        self._pumps = [self._start_pump(index) for index in range(len(parsers))]

    async def begin(self, within_s: float | None = None) -> None:
        """Wait for the first delta, but no longer; raises the engine's refusal while a status can
        still be sent."""
        await self._wait(within_s)
        told = (items[0] for index, items in self._arrived.items() if index < self.request.n)
        first = next(told, None)
        if isinstance(first, EngineError):
            raise first

    async def events(
        self, idle_s: float | None = None
    ) -> AsyncIterator[list[tuple[Choice, Delta, list[Part]]]]:
        """What has come since the last time, until all choices have finished: of each choice one
        delta and the parts to show. Nothing, whenever nothing has come for `idle_s`."""
        if self._chooser is None or not self.chooses:
            async for events in self._arriving(idle_s):
                yield events
            return
        chosen = asyncio.ensure_future(self._choose(self._chooser))
        try:
            while not (await asyncio.wait({chosen}, timeout=idle_s))[0]:
                yield []
            self.choices = chosen.result()
        finally:
            chosen.cancel()
        yield [(choice, Delta.join(choice.deltas), choice.blocks) for choice in self.choices]

    async def _choose(self, chooser: Chooser) -> list[Choice]:
        async for _ in self._arriving():
            pass
        whole = [choice for choice in self.candidates if choice.finish is not None]
        choices = await chooser.choose(whole)
        for index, choice in enumerate(choices):
            choice.index = index
        return choices

    async def _arriving(
        self, idle_s: float | None = None
    ) -> AsyncIterator[list[tuple[Choice, Delta, list[Part]]]]:
        """Of all candidates."""
        while any(
            choice.finish is None and place not in self._lost
            for place, choice in enumerate(self.candidates)
        ):
            await self._wait(idle_s)
            arrived, self._arrived = self._arrived, {}
            error: EngineError | None = None
            events = []
            for index, items in arrived.items():
                choice = self.candidates[index]
                if isinstance(last := items[-1], EngineError):
                    if index < self.request.n:
                        error = error or last
                    else:
                        self._lost.add(index)
                if deltas := [item for item in items if isinstance(item, Delta)]:
                    delta = Delta.join(deltas)
                    events.append((choice, delta, choice.add(delta)))
            if events or error is None:
                yield events
            if error is not None:
                raise error

    async def _wait(self, within_s: float | None) -> None:
        """Until something has come, but no longer."""
        if self._arrived:
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = None if within_s is None else loop.call_later(within_s, self._wake)
        try:
            await self._waiter
        finally:
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _put(self, index: int, item: Delta | EngineError) -> None:
        if index in self._ended:
            return  # what comes after its end is nothing to the reader
        if isinstance(item, EngineError) or item.finish_reason is not None:
            self._ended.add(index)
        if self.first_token_s is None:
            self.first_token_s = time.monotonic() - self.started
        self._arrived.setdefault(index, []).append(item)
        self._wake()

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
        """Of the prompt, found in the cache when the first candidate was computed."""
        return self.candidates[0].deltas[0].cached_tokens if self.candidates[0].deltas else 0

    @property
    def waits(self) -> bool:
        """Whether there is nothing to tell yet."""
        return self.chooses or not self._arrived

    @property
    def chooses(self) -> bool:
        """Whether there are more candidates than answers."""
        return len(self.candidates) > self.request.n

    @property
    def best_of(self) -> BestOf | None:
        """How the answers were chosen, if it was asked for."""
        return None if self._chooser is None else self._chooser.record

    @property
    def generated_tokens(self) -> int:
        """Of all candidates."""
        return sum(len(choice.token_ids) for choice in self.candidates)

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
        self._put(index, error)

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
                self._put(index, delta)
