"""A generation as a message of the Messages API: whole, and as the events of a stream.

Left out: signatures of thinking, which nothing here would check, and citations.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from burnish.serving.api.answer_parser import Part
from burnish.serving.api.chat_formatters import call_id
from burnish.serving.api.errors import ApiError
from burnish.serving.api.generation import Choice, Generation
from burnish.serving.api.messages.requests import NAMES
from burnish.serving.api.sse import HOLE, Event, Frame, quoted
from burnish.serving.engine import Delta

_DELTAS = {
    "reasoning": {"type": "thinking_delta", "thinking": HOLE},
    "content": {"type": "text_delta", "text": HOLE},
    "tool_call": {"type": "input_json_delta", "partial_json": HOLE},
}
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class MessageFormatter:
    operation = "messages"
    names = NAMES
    done = ""

    def __init__(self) -> None:
        self._before: Part | None = None  # the piece sent last
        self._blocks = 0  # that have been begun
        self._frame: Frame | None = None  # of the block that is being sent

    def response(self, generation: Generation) -> dict[str, Any]:
        choice = generation.choices[0]
        content = [
            _block(generation, choice, place, part) for place, part in enumerate(choice.blocks)
        ]
        return {**_message(generation), "content": content, **_stop(choice)}

    def first_events(self, generation: Generation) -> list[Event]:
        stop: Event = {"stop_reason": None, "stop_sequence": None}
        message = {**_message(generation), "content": [], **stop}
        return [{"type": "message_start", "message": message}, {"type": "ping"}]

    def events(
        self, generation: Generation, choice: Choice, delta: Delta, parts: list[Part]
    ) -> Sequence[Event | str]:
        return [event for part in parts for event in self._part(generation, choice, part)]

    def _part(self, generation: Generation, choice: Choice, part: Part) -> Iterator[Event | str]:
        if not part.continues(self._before):
            yield from self._close()
            empty = Part(part.kind, "", part.name)
            block = _block(generation, choice, self._blocks, empty)
            yield {"type": "content_block_start", "index": self._blocks, "content_block": block}
            self._frame = Frame(
                {"type": "content_block_delta", "index": self._blocks, "delta": _DELTAS[part.kind]}
            )
            self._blocks += 1
        self._before = part
        assert self._frame is not None
        yield self._frame.fill(quoted(part.text))

    def last_events(self, generation: Generation) -> list[Event]:
        stop, usage = _stop(generation.choices[0]), _usage(generation)
        return [
            *self._close(),
            {"type": "message_delta", "delta": stop, "usage": usage},
            {"type": "message_stop"},
        ]

    def error_events(self, generation: Generation, error: ApiError) -> list[Event]:
        return [error.message_body()]

    def _close(self) -> Iterator[Event]:
        if self._before is not None:
            self._before = None
            yield {"type": "content_block_stop", "index": self._blocks - 1}


def _message(generation: Generation) -> dict[str, Any]:
    return {
        "id": generation.request.id,
        "type": "message",
        "role": "assistant",
        "model": generation.request.model,
        "system_fingerprint": generation.lease.ref,
        "arm": generation.lease.arm,
        "usage": _usage(generation),
    }


def _usage(generation: Generation) -> dict[str, Any]:
    """Tokens of the prompt that were in the cache are counted apart."""
    usage = generation.usage()
    return {
        "input_tokens": usage["prompt_tokens"] - generation.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": generation.cached_tokens,
        "output_tokens": usage["completion_tokens"],
    }


def _stop(choice: Choice) -> dict[str, Any]:
    if choice.stopped_by:
        return {"stop_reason": "stop_sequence", "stop_sequence": choice.stopped_by}
    reason = _STOPS.get(choice.finish or "", choice.finish)
    return {"stop_reason": reason, "stop_sequence": None}


def _block(generation: Generation, choice: Choice, place: int, part: Part) -> dict[str, Any]:
    if part.kind == "reasoning":
        return {"type": "thinking", "thinking": part.text, "signature": ""}
    if part.kind == "content":
        return {"type": "text", "text": part.text}
    before = sum(block.kind == "tool_call" for block in choice.blocks[:place])
    name = call_id(generation, choice, before).replace("call_", "toolu_", 1)
    return {"type": "tool_use", "id": name, "name": part.name, "input": _object(part.text)}


def _object(arguments: str) -> dict[str, Any]:
    """The arguments of a call; none of one that was cut off."""
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
