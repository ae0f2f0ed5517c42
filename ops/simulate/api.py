"""The service's API as a product uses it: the async `openai` client, and feedback posted through it.

A 429 with Retry-After is expected under load and is retried; every other error is recorded as a
failure. The client's own retries are off, because they would hide failures from the simulation.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import openai
from burnish.ops.simulate.journal import Journal
from burnish.ops.simulate.options import Options

# Shorter than any server's own limit: a connection that the server closes while a request is in
# flight looks like a failed request, and whether it was served is unknown.
HTTP_LIMITS = httpx.Limits(keepalive_expiry=2.0)
MAX_REFUSALS = 50  # consecutive 429s before the call counts as failed


@dataclass(frozen=True)
class ChatReply:
    """One answer as received."""

    id: str
    version: int
    text: str
    tool_calls: list[dict] | None
    at: float
    seconds: float


class ServiceApi:
    """Calls return None on failure, which the journal records with its reason."""

    def __init__(self, options: Options, journal: Journal) -> None:
        self._options = options
        self._journal = journal
        self._client = openai.AsyncOpenAI(
            base_url=options.url.rstrip("/") + "/v1",
            api_key=options.key,
            max_retries=0,
            timeout=options.timeout_s,
            http_client=openai.DefaultAsyncHttpxClient(limits=HTTP_LIMITS),
        )

    async def close(self) -> None:
        await self._client.close()

    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        *,
        model: str,
        user: str | None = None,
        seed: int | None = None,
    ) -> ChatReply | None:
        body: dict[str, Any] = {
            "model": model,
            "messages": list(messages),
            "temperature": self._options.temperature,
            "max_tokens": self._options.max_tokens,
        }
        if tools:
            body["tools"] = list(tools)
        if user is not None:
            body["user"] = user
        if seed is not None:
            body["seed"] = seed
        started = time.monotonic()
        completion = await self._call(
            f"chat with {model}", lambda: self._client.chat.completions.create(**body)
        )
        if completion is None:
            return None
        message = completion.choices[0].message
        calls = [call.model_dump(exclude_none=True) for call in message.tool_calls or ()]
        return ChatReply(
            id=completion.id,
            version=version_of(completion.system_fingerprint),
            text=message.content or "",
            tool_calls=calls or None,
            at=time.time(),
            seconds=time.monotonic() - started,
        )

    async def send_thumb(self, answer_id: str, up: bool, user: str) -> str | None:
        """The feedback id, once the service has acknowledged the vote."""
        body = {
            "interaction_id": answer_id,
            "name": "thumbs",
            "value": "up" if up else "down",
            "user": user,
        }
        accepted = await self._call(
            "feedback", lambda: self._client.post("/feedback", body=body, cast_to=object)
        )
        return accepted["id"] if isinstance(accepted, dict) else None

    async def retract(self, feedback_id: str) -> bool:
        path = f"/feedback/{feedback_id}"
        response = await self._call("retraction", lambda: self._client.delete(path, cast_to=object))
        return response is not None

    async def get(self, path: str) -> dict:
        """Any other resource; empty on failure."""
        resource = await self._call(
            f"GET {path}", lambda: self._client.get("/" + path, cast_to=object)
        )
        return resource if isinstance(resource, dict) else {}

    async def _call(self, what: str, send: Any) -> Any:
        for _ in range(MAX_REFUSALS):
            try:
                answer = await send()
            except openai.RateLimitError as refusal:
                self._journal.refused += 1
                await asyncio.sleep(float(refusal.response.headers.get("retry-after") or 0.5))
            except openai.APIError as error:
                self._journal.failures.append(f"{what}: {type(error).__name__}: {error.message}")
                return None
            else:
                return {} if answer is None or answer == "" else answer
        self._journal.failures.append(f"{what}: still refused after {MAX_REFUSALS} tries")
        return None


def version_of(fingerprint: str | None) -> int:
    """12 for `default@12`."""
    return int((fingerprint or "").rpartition("@")[2])
