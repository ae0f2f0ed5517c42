"""The service as a product sees it: the async `openai` client, feedback posted through it.

A refusal with Retry-After is the service working as promised and is tried again; every
other error is written down as a failure. The client's own silent retries are off,
because they would hide exactly what a simulation is there to find.
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

# Idle connections are dropped long before any server does: one closed while a request is on its
# way looks like a failed request, and nobody could say whether it was served.
LIMITS = httpx.Limits(keepalive_expiry=2.0)
REFUSALS = 50  # in a row, before a busy service counts as a failing one


@dataclass(frozen=True)
class Reply:
    """One answer off the wire."""

    id: str
    version: int
    text: str
    tool_calls: list[dict] | None
    at: float
    seconds: float


class Api:
    """Every call returns None when it failed; the journal says why."""

    def __init__(self, options: Options, journal: Journal) -> None:
        self._options = options
        self._journal = journal
        self._client = openai.AsyncOpenAI(
            base_url=options.url.rstrip("/") + "/v1",
            api_key=options.key,
            max_retries=0,
            timeout=options.timeout_s,
            http_client=openai.DefaultAsyncHttpxClient(limits=LIMITS),
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
    ) -> Reply | None:
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
        begin = time.monotonic()
        done = await self._call(
            f"chat with {model}", lambda: self._client.chat.completions.create(**body)
        )
        if done is None:
            return None
        message = done.choices[0].message
        calls = [call.model_dump(exclude_none=True) for call in message.tool_calls or ()]
        return Reply(
            id=done.id,
            version=version_of(done.system_fingerprint),
            text=message.content or "",
            tool_calls=calls or None,
            at=time.time(),
            seconds=time.monotonic() - begin,
        )

    async def thumb(self, answer_id: str, up: bool, user: str) -> str | None:
        """The feedback id, once the service has taken the vote into its keeping."""
        body = {
            "interaction_id": answer_id,
            "name": "thumbs",
            "value": "up" if up else "down",
            "user": user,
        }
        taken = await self._call(
            "feedback", lambda: self._client.post("/feedback", body=body, cast_to=object)
        )
        return taken["id"] if isinstance(taken, dict) else None

    async def retract(self, feedback_id: str) -> bool:
        path = f"/feedback/{feedback_id}"
        gone = await self._call("retraction", lambda: self._client.delete(path, cast_to=object))
        return gone is not None

    async def get(self, path: str) -> dict:
        """Any other resource; an empty one when that failed."""
        found = await self._call(
            f"GET {path}", lambda: self._client.get("/" + path, cast_to=object)
        )
        return found if isinstance(found, dict) else {}

    async def _call(self, what: str, send: Any) -> Any:
        for _ in range(REFUSALS):
            try:
                answer = await send()
            except openai.RateLimitError as busy:
                self._journal.refused += 1
                await asyncio.sleep(float(busy.response.headers.get("retry-after") or 0.5))
            except openai.APIError as error:
                self._journal.failures.append(f"{what}: {type(error).__name__}: {error.message}")
                return None
            else:
                return {} if answer is None or answer == "" else answer
        self._journal.failures.append(f"{what}: still refused after {REFUSALS} tries")
        return None


def version_of(fingerprint: str | None) -> int:
    """12 for `default@12`."""
    return int((fingerprint or "").rpartition("@")[2])
