"""Records generations as interaction events in the durable spool.

An interaction is recorded once `record` has returned: the event is on disk by then. An answer that
the spool cannot take is served all the same, and counted as unrecorded. One whose client has opted
out is not written anywhere (opt_out.py).
Left out: the stream (the spool's forwarder takes it from there) and everything about rewards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

from burnish.feedback.contract import INTERACTIONS
from burnish.feedback.errors import FeedbackError, SpoolError
from burnish.feedback.events import Arm, Completion, Event, InteractionEvent
from burnish.feedback.spool.spool import Receipt, Spool
from burnish.serving.api.generation import Choice, Generation
from burnish.serving.api.off_loop import off_loop

log = logging.getLogger(__name__)
NOTHING: Mapping[str, str | None] = MappingProxyType({})
Outcome = Literal["recorded", "unrecorded", "opted_out"]
_MICROSECONDS = 2  # to encode a token with its log-probabilities


def interaction_of(
    generation: Generation, rounded: Mapping[str, str | None] = NOTHING
) -> InteractionEvent:
    """The event of a generation: token ids, log-probabilities, version, sampling parameters; with them
    the formats of weights and cache, if the engine rounds."""
    request, assigned = generation.request, generation.lease.assignment
    return InteractionEvent(
        id=request.id,
        time=datetime.fromtimestamp(request.created, UTC),
        tenant=request.tenant,
        user=request.user,
        session_id=request.session_id,
        policy=generation.lease.policy,
        version=generation.lease.version,
        messages=list(request.messages),
        tools=None if request.tools is None else list(request.tools),
        prompt_ids=list(request.prompt_ids),
        completions=[_completion(choice) for choice in generation.choices],
        sampling={**asdict(request.params), "n": request.n, **rounded},
        best_of=generation.best_of,
        memories=list(request.memory.cursors) if request.memory else [],
        memory=request.memory,
        arm=None
        if assigned is None
        else Arm(name=assigned.arm, challenger=assigned.challenger, subject=assigned.subject),
        seconds=round(generation.seconds, 3),
        metadata=request.metadata,
    )


def _completion(choice: Choice) -> Completion:
    calls = [{"name": part.name, "arguments": part.text} for part in choice.calls]
    return Completion(
        index=choice.index,
        token_ids=choice.token_ids,
        logprobs=[x for delta in choice.deltas for x in delta.logprobs],
        processed_logprobs=[x for delta in choice.deltas for x in delta.processed_logprobs],
        text=choice.text,
        finish_reason=choice.finish or "cancelled",
        tool_calls=calls or None,
    )


async def append(
    spool: Spool, entries: Callable[[], Sequence[tuple[str, str, Event]]], microseconds: float
) -> list[Receipt]:
    """Spool events, built and encoded off the loop where that takes long. Returns when they are on
    disk; cancelled before that, they may be all the same. Raises FeedbackError."""
    stored = await off_loop(microseconds, lambda: spool.submit(entries()))
    return await asyncio.shield(asyncio.wrap_future(stored))


class Recorder:
    """Writes interactions; `record_later` is for answers whose client has disconnected."""

    def __init__(self, spool: Spool, rounded: Mapping[str, str | None] = NOTHING):
        """`rounded`: formats of the engine's weights and cache, where they are not lossless."""
        self._spool, self._rounded = spool, rounded
        self._tasks: set[asyncio.Task] = set()
        self._in_a_row = 0  # not recorded since the last that was
        self.unrecorded = 0
        """Answers since the start that the spool did not take; they are not learnt from."""

    async def record(self, generation: Generation) -> Outcome:
        """Returns when the interaction is durable, or will not be. Raises EventTooLarge."""
        if not generation.request.recorded:
            return "opted_out"
        try:
            await append(
                self._spool,
                lambda: [(INTERACTIONS, generation.request.id, self._event(generation))],
                _MICROSECONDS * generation.usage()["total_tokens"],
            )
        except SpoolError as error:
            if not self._in_a_row:
                log.error("answers are not recorded: %s", error)
            self._in_a_row += 1
            self.unrecorded += 1
            return "unrecorded"
        if self._in_a_row:
            log.warning("recording again; %d answers were not recorded", self._in_a_row)
            self._in_a_row = 0
        return "recorded"

    def _event(self, generation: Generation) -> InteractionEvent:
        return interaction_of(generation, self._rounded)

    def record_later(self, generation: Generation) -> None:
        """Record an interrupted answer: feedback may come for the part that was shown."""
        generation.mark_cancelled()
        self.background(self._record_or_log(generation))

    def background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record_or_log(self, generation: Generation) -> None:
        try:
            await self.record(generation)
        except FeedbackError as error:
            log.error(
                "interaction %s was broken off and not recorded: %s", generation.request.id, error
            )
        except Exception:  # nobody waits for it: the log is who is told
            log.exception("interaction %s was broken off and not recorded", generation.request.id)

    async def drain(self) -> None:
        """Wait until everything is written, or has failed."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
