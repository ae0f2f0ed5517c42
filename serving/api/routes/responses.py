"""POST /v1/responses/compact: OpenAI's shape for making a conversation fit, done by memory.

Takes the input items of a response and returns fewer of them, to be sent as the next input. They
stay readable items; there is no opaque one. Ours besides: `budget` (default: 0.4 of the model's
window), `policy`. Left out: `previous_response_id` (no responses are stored), images and files.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from burnish.feedback.ranges import Label, Many, Paragraph, Positive, Text
from burnish.memory import MemoryStore
from burnish.serving.api.errors import ApiError, unsupported
from burnish.serving.api.routes.memory.route import Body, Route
from fastapi import APIRouter, Depends

SHARE = 0.4
_TEXTS = ("input_text", "output_text", "text")
_SPOKEN = {"user": "input_text", "system": "input_text", "developer": "input_text"}


class CompactRequest(Body):
    input: Text | Many[dict[str, Any]]
    model: Label | None = None
    instructions: Paragraph | None = None
    previous_response_id: Label | None = None
    budget: Positive | None = None
    policy: Label = "bm25"


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
            raise unsupported("previous_response_id", "Responses are not stored: send the items.")
        items = body.input
        if isinstance(items, str):
            items = [{"role": "user", "content": items}]
        events = events_of(items)
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


def events_of(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Input items as the events memory takes. Calls made in a row are one step, and reasoning,
    which belongs to the answer it led to, is left out. Raises ApiError, naming the item."""
    events: list[dict[str, Any]] = []
    for place, item in enumerate(items):
        where = f"input.{place}"
        match item.get("type", "message"):
            case "message":
                content = _text(item.get("content"), where)
                if content:
                    events.append({"role": item.get("role"), "content": content})
            case "function_call":
                call = {
                    "id": item.get("call_id"),
                    "type": "function",
                    "function": {"name": item.get("name"), "arguments": item.get("arguments")},
                }
                if events and "tool_calls" in events[-1]:
                    events[-1]["tool_calls"].append(call)
                else:
                    events.append({"role": "assistant", "content": None, "tool_calls": [call]})
            case "function_call_output":
                output = item.get("output")
                content = output if isinstance(output, str) else _text(output, where)
                answers = {"tool_call_id": str(item.get("call_id"))}
                events.append({"role": "tool", "content": content, **answers})
            case "reasoning":
                continue
            case other:
                raise ApiError(
                    400,
                    f"Items of type '{other}' cannot be compacted here; message, function_call,"
                    " function_call_output and reasoning can.",
                    code="unsupported_item",
                    param=where,
                )
    return events


def items_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A message as the items of a next input."""
    role, content = message["role"], message["content"]
    if role == "tool":
        call = message["tool_call_id"]
        return [{"type": "function_call_output", "call_id": call, "output": content}]
    items: list[dict[str, Any]] = []
    if content:
        part: dict[str, Any] = {"type": _SPOKEN.get(role, "output_text"), "text": content}
        if role == "assistant":
            part["annotations"] = []
        items.append({"type": "message", "role": role, "content": [part]})
    for call in message.get("tool_calls") or ():
        asked = {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        items.append({"type": "function_call", "call_id": call["id"], **asked})
    return items


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    for part in parts:
        if not isinstance(part, dict) or part.get("type") not in _TEXTS:
            kind = part.get("type") if isinstance(part, dict) else json.dumps(part)
            raise ApiError(
                400,
                f"Only text can be compacted, not {kind}.",
                code="unsupported_item",
                param=where,
            )
    return "".join(str(part.get("text", "")) for part in parts)
