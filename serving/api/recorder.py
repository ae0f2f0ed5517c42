"""Turns into interaction events, put into the durable spool.

An answer counts as given once `record` has returned: the event is on disk by then.
Left out: the stream (the spool's forwarder takes it from there) and everything about rewards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import asdict
from datetime import UTC, datetime

from burnish.feedback.contract import INTERACTIONS
from burnish.feedback.errors import FeedbackError
from burnish.feedback.events import Completion, InteractionEvent
from burnish.feedback.spool.spool import Spool
from burnish.serving.api.generation import Choice, Generation

log = logging.getLogger(__name__)


def interaction_of(turn: Generation) -> InteractionEvent:
    """What happened, with all that learning needs: token ids, log-probabilities, version, sampling."""
    question = turn.question
    return InteractionEvent(
        id=question.id,
        time=datetime.fromtimestamp(question.created, UTC),
        tenant=question.tenant,
        user=question.user,
        session_id=question.session_id,
        policy=turn.lease.policy,
        version=turn.lease.version,
        messages=list(question.messages),
        tools=None if question.tools is None else list(question.tools),
        prompt_ids=list(question.prompt_ids),
        completions=[_completion(choice) for choice in turn.choices],
        sampling={**asdict(question.params), "n": question.n},
        memories=list(question.memory.cursors) if question.memory else [],
        memory=question.memory,
        metadata=question.metadata,
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


class Recorder:
    """Writes interactions; `later` is for the answers whose client has gone."""

    def __init__(self, spool: Spool):
        self._spool = spool
        self._tasks: set[asyncio.Task] = set()

    async def record(self, turn: Generation) -> None:
        """Returns when the interaction is durable. Raises SpoolFull, or another FeedbackError."""
        event = interaction_of(turn)
        await self._spool.append(INTERACTIONS, event.id, event)

    def record_later(self, turn: Generation) -> None:
        """Record a broken-off answer: feedback may come for what was seen of it."""
        turn.end_now()
        self.background(self._record_or_log(turn))

    def background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record_or_log(self, turn: Generation) -> None:
        try:
            await self.record(turn)
        except FeedbackError as error:
            log.error("interaction %s was broken off and not recorded: %s", turn.question.id, error)

    async def drain(self) -> None:
        """Wait for what still is to be written."""
        while self._tasks:
            await asyncio.gather(*self._tasks)
