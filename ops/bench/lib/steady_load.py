"""A steady load that tells what failed: streamed chats, votes on their answers, memory appends.

Nothing ends it: a refusal or an error is counted and the client goes on after a short pause.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import openai
from burnish.learner.tasks import ember

POLICY = "default"
PAUSE_S = 0.2


@dataclass
class Observed:
    """What the service acknowledged, by id, and how often what happened."""

    interactions: list[str] = field(default_factory=list)
    feedback: list[str] = field(default_factory=list)
    steps: dict[str, list[str]] = field(default_factory=dict)  # session -> ids of its steps
    counts: Counter[str] = field(default_factory=Counter)
    chat_errors: list[str] = field(default_factory=list)


class SteadyLoad:
    """`chats` clients that stream and vote, and `sessions` clients that append to a session each."""

    def __init__(
        self, url: str, chats: int, sessions: int, seed: int = 0, key: str = "bench"
    ) -> None:
        self.client = openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30
        )
        self._chats, self._sessions = chats, sessions
        self._rng = random.Random(seed)
        self.observed = Observed()
        self.gaps: Counter[int] = Counter()  # between the pieces of a stream, in milliseconds
        self.stopping = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._chats):
                group.create_task(self._chatting(f"outages-{number}"))
            for number in range(self._sessions):
                group.create_task(self._remembering(f"outages-{number}"))
        await self.client.close()

    async def _chatting(self, user: str) -> None:
        while not self.stopping:
            try:
                interaction = await self.chat(user)
            except (openai.APIError, BrokenOff) as error:
                self.observed.chat_errors.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(PAUSE_S)
                continue
            self.observed.counts["chats"] += 1
            try:
                await self.vote(interaction)
            except openai.APIError as error:
                self.observed.counts[f"votes refused ({_code(error)})"] += 1
                await asyncio.sleep(PAUSE_S)

    async def chat(self, user: str) -> str:
        """Stream one answer to its end; returns its id. Raises BrokenOff."""
        messages: Any = list(ember.sample(self._rng, family="arithmetic").messages)
        stream = await self.client.chat.completions.create(
            model=POLICY, messages=messages, user=user, max_tokens=48, stream=True
        )
        interaction, finished, last = "", False, None
        async for chunk in stream:
            now = time.monotonic()
            if last is not None:
                self.gaps[round(1000 * (now - last))] += 1
            interaction, last = chunk.id, now
            finished |= any(choice.finish_reason for choice in chunk.choices)
        if not finished:
            raise BrokenOff(f"{interaction} ended without a finish reason")
        self.observed.interactions.append(interaction)
        return interaction

    async def vote(self, interaction: str) -> str:
        """Judge an answer; returns the feedback's id."""
        value = self._rng.choice(("up", "down"))
        body = {"interaction_id": interaction, "name": "thumbs", "value": value}
        given: Any = await self.client.post("/feedback", body=body, cast_to=object)
        self.observed.feedback.append(given["id"])
        self.observed.counts["votes"] += 1
        return given["id"]

    async def _remembering(self, session: str) -> None:
        stored = self.observed.steps.setdefault(session, [])
        number = 0
        while not self.stopping:
            number += 1
            step = {"role": "user", "content": f"step {number}", "id": f"{session}-{number}"}
            path = f"/memory/sessions/{session}/events"
            try:
                await self.client.post(path, body={"events": [step]}, cast_to=object)
            except openai.APIError as error:
                self.observed.counts[f"steps refused ({_code(error)})"] += 1
            else:
                stored.append(step["id"])
                self.observed.counts["steps"] += 1
            await asyncio.sleep(PAUSE_S)


class BrokenOff(RuntimeError):
    """A stream ended before its answer did."""


def _code(error: openai.APIError) -> str:
    return str(error.code or type(error).__name__)
