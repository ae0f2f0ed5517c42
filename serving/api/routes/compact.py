"""POST /v1/responses/compact: OpenAI's shape for making a conversation fit, done by memory.

Takes the input items of a response and returns fewer of them, to be sent as the next input. They
stay readable items; there is no opaque one. Ours besides: `budget` (default: 0.4 of the model's
window), `policy`. Left out: `previous_response_id` (`truncation: "auto"` compacts those), images, files.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from burnish.feedback.ranges import Label, Many, Paragraph, Positive, Text
from burnish.memory import MemoryStore
from burnish.serving.api.chat_memory import event_of
from burnish.serving.api.errors import unsupported
from burnish.serving.api.responses.items import Item, MessageItem, items_of, messages_of
from burnish.serving.api.routes.memory.route import Body, Route
from fastapi import APIRouter, Depends

SHARE = 0.4


class CompactRequest(Body):
    input: Text | Many[Item]
    model: Label | None = None
    instructions: Paragraph | None = None
    previous_response_id: Label | None = None
    budget: Positive | None = None
    policy: Label = "bm25"

    @property
    def items(self) -> list[Item]:
        if isinstance(self.input, str):
            return [MessageItem(role="user", content=self.input)]
        return self.input


def router(
    get_store: Callable[..., MemoryStore],
    get_window: Callable[..., int],
    auth: Callable[..., Any],
) -> APIRouter:
    """`get_window` is a dependency that gives the served model's window in tokens."""
    api = APIRouter(prefix="/v1/responses", tags=["memory"], route_class=Route)

    @api.post("/compact", dependencies=[Depends(auth)])
    async def compact(
        body: CompactRequest,
        store: MemoryStore = Depends(get_store),
        window: int = Depends(get_window),
    ) -> dict[str, Any]:
        if body.previous_response_id is not None:
            why = "Send the items; truncation: 'auto' of a response compacts what is stored."
            raise unsupported("previous_response_id", why)
        events = [event_of(message) for message in messages_of(body.items)]
        budget = body.budget or max(int(SHARE * window), 1)
        done = await store.compact_messages(events, budget, body.policy, body.instructions)
        used, left = done["tokens_before"], done["tokens_after"]
        return {
            "id": f"cmp_{uuid.uuid4().hex}",
            "object": "response.compaction",
            "created_at": int(time.time()),
            "output": [item for message in done["messages"] for item in items_of(message)],
            "usage": {"input_tokens": used, "output_tokens": left, "total_tokens": used + left},
        }

    return api
