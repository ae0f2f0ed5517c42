"""The live phase: users chat, judge, judge late and retract, while the service is polled.

Closed-loop load: each of `concurrency` workers has one chat in flight and starts the next when it
is answered, limited to `rate` chats a second over all workers.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from burnish.learner.tasks import ember
from burnish.ops.simulate.api import ChatReply, ServiceApi
from burnish.ops.simulate.journal import Journal, SentVote, ServedAnswer
from burnish.ops.simulate.options import Options
from burnish.ops.simulate.population import Population, User

POLL_S = 1.0
RETRACT_AFTER_S = (1.0, 20.0)


class Traffic:
    """Load of one simulation until its deadline or its number of answers."""

    def __init__(
        self, options: Options, population: Population, api: ServiceApi, journal: Journal
    ) -> None:
        self._options = options
        self._population = population
        self._api = api
        self._journal = journal
        self._rng = random.Random(f"traffic:{options.seed}")
        self._delayed: set[asyncio.Task] = set()
        self.deadline = time.monotonic() + 60 * options.minutes

    async def run(self) -> None:
        """Run until the deadline; late votes not sent by then are dropped, as by a closed tab."""
        poller = asyncio.create_task(self._poll_forever())
        async with asyncio.TaskGroup() as group:
            for _ in range(self._options.concurrency):
                group.create_task(self._worker())
        for task in self._delayed:
            task.cancel()
        await asyncio.gather(*self._delayed, return_exceptions=True)
        poller.cancel()
        await asyncio.gather(poller, return_exceptions=True)
        await poll(self._api, self._journal, self._options)

    async def _worker(self) -> None:
        pause = self._options.concurrency / self._options.rate if self._options.rate else 0.0
        while time.monotonic() < self.deadline and not self._finished():
            started = time.monotonic()
            await self._chat_once(self._rng.choice(self._population.users))
            remaining = pause - (time.monotonic() - started)
            if remaining > 0:
                await asyncio.sleep(remaining)

    def _finished(self) -> bool:
        return 0 < self._options.answers <= len(self._journal.answers)

    async def _chat_once(self, user: User) -> None:
        """One chat of one user, and that user's votes on it."""
        task = ember.sample(self._rng)
        reply = await self._api.chat(
            task.messages, task.tools, model=self._options.model, user=user.id
        )
        if reply is None:
            await asyncio.sleep(0.2)  # back off while the service is down
            return
        answer = grade(task, reply, user, self._population)
        votes = self._population.votes(user, answer.expected, self._rng)
        if votes:
            answer = replace(answer, thumb=votes[-1])
        if self._rng.random() < self._options.shadow and user.behaviour == "honest":
            answer = replace(answer, base=await self._shadow(task, user))
        self._journal.answers.append(answer)
        for up in votes:
            await self._vote(answer, user, up)

    async def _shadow(self, task: ember.Exercise, user: User) -> ServedAnswer | None:
        """The frozen base's answer to the same prompt. It is not shown, so no vote is sent; its
        thumb is the one that the user would have given."""
        reply = await self._api.chat(task.messages, task.tools, model=self._options.base)
        if reply is None:
            return None
        answer = grade(task, reply, user, self._population)
        votes = self._population.votes(user, answer.expected, self._rng)
        return replace(answer, thumb=votes[-1] if votes else None)

    async def _vote(self, answer: ServedAnswer, user: User, up: bool) -> None:
        if self._rng.random() < self._options.late:
            delay = self._rng.expovariate(1 / self._options.late_s)
            self._spawn(self._send(answer, user, up, delay))
        else:
            await self._send(answer, user, up, 0.0)

    async def _send(self, answer: ServedAnswer, user: User, up: bool, delay: float) -> None:
        await asyncio.sleep(delay)
        feedback_id = await self._api.send_thumb(answer.id, up, user.id)
        if feedback_id is None:
            return
        self._journal.votes[feedback_id] = SentVote(
            at=time.time(),
            feedback_id=feedback_id,
            answer_id=answer.id,
            version=answer.version,
            up=up,
            honest=user.behaviour == "honest",
            staleness=max(self._journal.champion - answer.version, 0),
        )
        if self._rng.random() < self._options.retract:
            self._spawn(self._retract_later(feedback_id))

    async def _retract_later(self, feedback_id: str) -> None:
        await asyncio.sleep(self._rng.uniform(*RETRACT_AFTER_S))
        if await self._api.retract(feedback_id):
            self._journal.retract(feedback_id)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._delayed.add(task)
        task.add_done_callback(self._delayed.discard)

    async def _poll_forever(self) -> None:
        while True:
            await poll(self._api, self._journal, self._options)
            await asyncio.sleep(POLL_S)


async def poll(api: ServiceApi, journal: Journal, options: Options) -> None:
    """Record the current champion and the learner's latest ticks."""
    listed = (await api.get("policies")).get("data", ())
    for (
        live
    ) in listed:  # the list comes from serving's memory; a single policy would query the registry
        if live["name"] == options.policy and live["champion"] is not None:
            journal.observe_champion(time.time(), live["champion"])
    for tick in (await api.get("learner")).get("ticks", ()):
        journal.ticks[tick["id"]] = tick


def grade(
    task: ember.Exercise, reply: ChatReply, user: User, population: Population
) -> ServedAnswer:
    """The reply with its correctness, style and expected thumbs-up rate."""
    right = ember.is_correct(task, reply.text, reply.tool_calls)
    style = ember.style_of(task, reply.text)
    return ServedAnswer(
        at=reply.at,
        id=reply.id,
        user=user.id,
        family=task.family,
        version=reply.version,
        right=right,
        style=style,
        expected=population.expected_by(user, task.family, right, style),
        honest=user.behaviour == "honest",
        seconds=reply.seconds,
    )
