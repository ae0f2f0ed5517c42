"""The live phase: users chat, judge, judge late, take votes back; a watcher looks on.

The loop is closed: each of `concurrency` workers has one chat under way and starts the
next when it is answered, or at `rate` chats a second over all of them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from burnish.learner import tasks
from burnish.ops.simulate.api import Api, Reply
from burnish.ops.simulate.journal import Answer, Journal, Vote
from burnish.ops.simulate.options import Options
from burnish.ops.simulate.population import Population, User

WATCH_S = 1.0
RETRACT_AFTER_S = (1.0, 20.0)


class Traffic:
    def __init__(
        self, options: Options, population: Population, api: Api, journal: Journal
    ) -> None:
        self._options = options
        self._people = population
        self._api = api
        self._journal = journal
        self._rng = random.Random(f"traffic:{options.seed}")
        self._later: set[asyncio.Task] = set()
        self.deadline = time.monotonic() + 60 * options.minutes

    async def run(self) -> None:
        """Drive the service until the deadline; late votes that are not sent by then are lost,
        as a closed browser tab loses them."""
        watcher = asyncio.create_task(self._watch())
        async with asyncio.TaskGroup() as group:
            for _ in range(self._options.concurrency):
                group.create_task(self._worker())
        for task in self._later:
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        await look(self._api, self._journal, self._options)

    async def _worker(self) -> None:
        pause = self._options.concurrency / self._options.rate if self._options.rate else 0.0
        while time.monotonic() < self.deadline and not self._enough():
            begin = time.monotonic()
            await self._turn(self._rng.choice(self._people.users))
            rest = pause - (time.monotonic() - begin)
            if rest > 0:
                await asyncio.sleep(rest)

    def _enough(self) -> bool:
        return 0 < self._options.answers <= len(self._journal.answers)

    async def _turn(self, user: User) -> None:
        """One chat of one user, and what that user thinks of it."""
        task = tasks.sample(self._rng)
        reply = await self._api.chat(
            task.messages, task.tools, model=self._options.model, user=user.id
        )
        if reply is None:
            await asyncio.sleep(0.2)  # a service that is down should not be hammered
            return
        answer = graded(task, reply, user, self._people)
        votes = self._people.votes(user, answer.expected, self._rng)
        if votes:
            answer = replace(answer, thumb=votes[-1])
        if self._rng.random() < self._options.shadow and user.temper == "honest":
            answer = replace(answer, base=await self._shadow(task, user))
        self._journal.answers.append(answer)
        for up in votes:
            await self._vote(answer, user, up)

    async def _shadow(self, task: tasks.Task, user: User) -> Answer | None:
        """The frozen base's answer to the same prompt. Nobody sees it, so no vote is sent;
        the thumb kept with it is the one its user would have given."""
        reply = await self._api.chat(task.messages, task.tools, model=self._options.base)
        if reply is None:
            return None
        answer = graded(task, reply, user, self._people)
        votes = self._people.votes(user, answer.expected, self._rng)
        return replace(answer, thumb=votes[-1] if votes else None)

    async def _vote(self, answer: Answer, user: User, up: bool) -> None:
        if self._rng.random() < self._options.late:
            delay = self._rng.expovariate(1 / self._options.late_s)
            self._spawn(self._send(answer, user, up, delay))
        else:
            await self._send(answer, user, up, 0.0)

    async def _send(self, answer: Answer, user: User, up: bool, delay: float) -> None:
        await asyncio.sleep(delay)
        feedback_id = await self._api.thumb(answer.id, up, user.id)
        if feedback_id is None:
            return
        self._journal.votes[feedback_id] = Vote(
            at=time.time(),
            feedback_id=feedback_id,
            answer_id=answer.id,
            version=answer.version,
            up=up,
            honest=user.temper == "honest",
            staleness=max(self._journal.champion - answer.version, 0),
        )
        if self._rng.random() < self._options.retract:
            self._spawn(self._take_back(feedback_id))

    async def _take_back(self, feedback_id: str) -> None:
        await asyncio.sleep(self._rng.uniform(*RETRACT_AFTER_S))
        if await self._api.retract(feedback_id):
            self._journal.retract(feedback_id)

    def _spawn(self, later: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(later)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _watch(self) -> None:
        while True:
            await look(self._api, self._journal, self._options)
            await asyncio.sleep(WATCH_S)


async def look(api: Api, journal: Journal, options: Options) -> None:
    """Note where the champion stands and what the learner says it did."""
    listed = (await api.get("policies")).get("data", ())
    for live in listed:  # the list is what serving knows anyway; one policy asks the registry
        if live["name"] == options.policy and live["champion"] is not None:
            journal.saw_champion(time.time(), live["champion"])
    for tick in (await api.get("learner")).get("ticks", ()):
        journal.ticks[tick["id"]] = tick


def graded(task: tasks.Task, reply: Reply, user: User, people: Population) -> Answer:
    """The answer with the truth about it, which only the simulator knows."""
    right = tasks.is_correct(task, reply.text, reply.tool_calls)
    style = tasks.style_of(task, reply.text)
    return Answer(
        at=reply.at,
        id=reply.id,
        user=user.id,
        family=task.family,
        version=reply.version,
        right=right,
        style=style,
        expected=people.expected_by(user, task.family, right, style),
        honest=user.temper == "honest",
        seconds=reply.seconds,
    )
