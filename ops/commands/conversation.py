"""A conversation with the service: its turns, their judgements, and what became of those.

Through the openai client, as a product would. Left out: the terminal (chat.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import openai
from burnish.ops.commands.client import ServiceClient, ServiceError
from burnish.ops.settings import UpSettings


@dataclass
class Turn:
    """A question, its answer as far as it came, and the judgements given on it, newest last."""

    question: str
    answer: str = ""
    reasoning: str = ""
    interaction_id: str | None = None
    version: str | None = None
    votes: list[Vote] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.interaction_id,
            "version": self.version,
            "question": self.question,
            "answer": self.answer,
            **({"reasoning": self.reasoning} if self.reasoning else {}),
        }


@dataclass(frozen=True)
class Vote:
    """A judgement by the id under which the service keeps it."""

    id: str
    name: str
    value: Any


class Conversation:
    """The turns so far; feedback refers to the latest answer, and `user` says whose it is."""

    def __init__(self, settings: UpSettings, model: str, system: str | None, user: str) -> None:
        self._service = ServiceClient(settings)
        self._client = openai.OpenAI(
            base_url=f"{self._service.url}/v1",
            api_key=settings.api_key or "none-needed-on-loopback",
            max_retries=0,
        )
        self.model = model
        self._system = system
        self._user = user
        self.turns: list[Turn] = []

    @property
    def url(self) -> str:
        return self._service.url

    def restart(self) -> None:
        self.turns = []

    @property
    def messages(self) -> list[Any]:
        """What the next question is asked after; a turn that failed without an answer is none of it."""
        told: list[Any] = [{"role": "system", "content": self._system}] if self._system else []
        for turn in self.turns:
            if turn.answer:
                told.append({"role": "user", "content": turn.question})
                told.append({"role": "assistant", "content": turn.answer})
        return told

    def ask(self, text: str) -> Iterator[tuple[str, str]]:
        """Stream the answer: ("reasoning" or "content", text). The turn keeps what has come."""
        messages = [*self.messages, {"role": "user", "content": text}]
        turn = Turn(text)
        self.turns.append(turn)
        with self._client.chat.completions.create(
            model=self.model, messages=messages, user=self._user, stream=True
        ) as stream:
            for chunk in stream:
                turn.interaction_id = chunk.id
                turn.version = chunk.system_fingerprint or turn.version
                delta = chunk.choices[0].delta if chunk.choices else None
                if thought := getattr(delta, "reasoning_content", None):
                    turn.reasoning += thought
                    yield "reasoning", thought
                if piece := delta and delta.content:
                    turn.answer += piece
                    yield "content", piece

    @property
    def judged(self) -> Turn:
        """The turn that feedback is about: the latest with an id. Raises ServiceError."""
        for turn in reversed(self.turns):
            if turn.interaction_id is not None:
                return turn
        raise ServiceError("there is no answer to judge yet")

    def judge(self, name: str, value: Any, rationale: str | None = None) -> Vote:
        turn = self.judged
        body = {
            "interaction_id": turn.interaction_id,
            "user": self._user,
            "name": name,
            "value": value,
        }
        told = self._service.post(
            "/v1/feedback", body | ({"rationale": rationale} if rationale else {})
        )
        vote = Vote(told["id"], name, value)
        turn.votes.append(vote)
        return vote

    def take_back(self) -> Vote | None:
        """Retract the latest judgement on the latest answer; None where there is none."""
        votes = self.judged.votes
        if not votes:
            return None
        self._service.delete(f"/v1/feedback/{votes[-1].id}")
        return votes.pop()

    def fate(self, vote: Vote) -> Any:
        """What the service knows of a judgement."""
        return self._service.get(f"/v1/feedback/{vote.id}")

    def learner(self) -> Any:
        return self._service.get("/v1/learner", limit=20)
