"""A generation as a response of the Responses API: whole, and as the events of a stream.

Each thing that an answer consists of is an item: what was thought, what was said, each call.
Left out: summaries of the thinking, which is told whole, and items of tools that run elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from burnish.feedback.ids import stem_of
from burnish.serving.api.answer_parser import Part
from burnish.serving.api.chat_formatters import DONE, call_id, token_logprobs
from burnish.serving.api.errors import ApiError
from burnish.serving.api.generation import Choice, Generation
from burnish.serving.api.responses.requests import NAMES, ResponseRequest
from burnish.serving.api.sse import HOLE, Event, Frame, quoted
from burnish.serving.engine import Delta

PREFIXES = {"reasoning": "rs", "content": "msg", "tool_call": "fc"}
_TEXTS = {"reasoning": "response.reasoning_text", "content": "response.output_text"}


def response_of_item(item_id: str) -> str:
    """The id of the response that an item of ours belongs to."""
    return f"resp_{item_id.partition('_')[2].rpartition('_')[0]}"


class ResponseFormatter:
    operation = "responses"
    names = NAMES
    done = DONE

    def __init__(self, body: ResponseRequest, tokenizer: Any):
        self.stored = body.store  # whether it can be asked for later
        self._body = body
        self._tokenizer = tokenizer
        self._sent = 0  # events
        self._open: list[Part] = []  # pieces of the item that is being sent
        self._items = 0  # that have been begun
        self._frame: Frame | None = None  # of more of the item that is being sent

    # -- whole -----------------------------------------------------------------------------------

    def response(self, generation: Generation) -> dict[str, Any]:
        choice = generation.choices[0]
        finished = choice.finish in ("stop", "tool_calls")
        reason = {"length": "max_output_tokens"}.get(choice.finish or "", choice.finish)
        usage = generation.usage()
        return {
            **self._head(generation),
            "status": "completed" if finished else "incomplete",
            "completed_at": int(time.time()) if finished else None,
            "incomplete_details": None if finished else {"reason": reason},
            "output": self.output(generation),
            "usage": {
                "input_tokens": usage["prompt_tokens"],
                "input_tokens_details": usage["prompt_tokens_details"],
                "output_tokens": usage["completion_tokens"],
                "output_tokens_details": usage["completion_tokens_details"],
                "total_tokens": usage["total_tokens"],
            },
        }

    def output(self, generation: Generation) -> list[dict[str, Any]]:
        """The items of the answer; one without text where there is nothing else."""
        choice = generation.choices[0]
        parts = choice.blocks or [Part("content", "")]
        return [
            self._item(generation, place, part, _status(choice, place == len(parts) - 1))
            for place, part in enumerate(parts)
        ]

    # -- streamed --------------------------------------------------------------------------------

    def first_events(self, generation: Generation) -> list[Event]:
        begun = {
            **self._head(generation),
            "status": "in_progress",
            "completed_at": None,
            "incomplete_details": None,
            "output": [],
            "usage": None,
        }
        kinds = ("response.created", "response.in_progress")
        return [self._event(kind, response=begun) for kind in kinds]

    def events(
        self, generation: Generation, choice: Choice, delta: Delta, parts: list[Part]
    ) -> Sequence[Event | str]:
        events: list[Event | str] = []
        told = self._logprobs([delta])
        for part in parts:
            if not part.continues(self._open[-1] if self._open else None):
                events += self._close(generation, "completed")
                events += self._begin(generation, part)
            self._open.append(part)
            logprobs = told if part.kind == "content" else []
            events.append(self._more(generation, part, logprobs))
            told = told if part.kind != "content" else []
        return events

    def last_events(self, generation: Generation) -> list[Event]:
        events: list[Event] = []
        if not self._items:
            nothing = Part("content", "")
            events += self._begin(generation, nothing)
            self._open.append(nothing)
        events += self._close(generation, _status(generation.choices[0], last=True))
        response = self.response(generation)
        return [*events, self._event(f"response.{response['status']}", response=response)]

    def error_events(self, generation: Generation, error: ApiError) -> list[Event]:
        told = error.body()["error"]
        failed = {
            **self._head(generation),
            "status": "failed",
            "completed_at": None,
            "incomplete_details": None,
            "output": [],
            "usage": None,
            "error": {"code": error.code or "server_error", "message": error.message},
        }
        flat = {key: told[key] for key in ("code", "message", "param")}
        return [
            self._event("error", **flat, error=told),
            self._event("response.failed", response=failed),
        ]

    def _begin(self, generation: Generation, part: Part) -> Iterator[Event]:
        place, self._items, self._frame = self._items, self._items + 1, None
        item = self._item(generation, place, Part(part.kind, "", part.name), "in_progress")
        if part.kind in _TEXTS:
            (empty,) = item["content"]
            item["content"] = []
        yield self._event("response.output_item.added", output_index=place, item=item)
        if part.kind in _TEXTS:
            where = {"item_id": item["id"], "output_index": place, "content_index": 0}
            yield self._event("response.content_part.added", **where, part=empty)

    def _more(self, generation: Generation, part: Part, logprobs: list[Any]) -> Event | str:
        kind = f"{_kind(part)}.delta"
        if self._frame is None or logprobs:
            where = self._where(generation, part)
            if part.kind == "content":
                where["logprobs"] = logprobs
            if logprobs:
                return self._event(kind, **where, delta=part.text)
            self._frame = Frame({"type": kind, "sequence_number": HOLE, **where, "delta": HOLE})
        self._sent += 1
        return self._frame.fill(str(self._sent - 1), quoted(part.text))

    def _close(self, generation: Generation, status: str) -> list[Event]:
        if not self._open:
            return []
        first, whole = self._open[0], "".join(part.text for part in self._open)
        part, self._open = Part(first.kind, whole, first.name), []
        item = self._item(generation, self._items - 1, part, status)
        where = self._where(generation, part)
        if part.kind == "tool_call":
            told = {"arguments": whole, "name": part.name}
            events = [self._event(f"{_kind(part)}.done", **where, **told)]
        else:
            (content,) = item["content"]
            told = {"logprobs": content["logprobs"]} if part.kind == "content" else {}
            events = [
                self._event(f"{_kind(part)}.done", **where, **told, text=whole),
                self._event("response.content_part.done", **where, part=content),
            ]
        place = self._items - 1
        return [*events, self._event("response.output_item.done", output_index=place, item=item)]

    def _where(self, generation: Generation, part: Part) -> dict[str, Any]:
        place = self._items - 1
        where = {"item_id": _item_id(generation, place, part), "output_index": place}
        return where if part.kind == "tool_call" else {**where, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> Event:
        self._sent += 1
        return {"type": kind, "sequence_number": self._sent - 1, **fields}

    # -- both ------------------------------------------------------------------------------------

    def _head(self, generation: Generation) -> dict[str, Any]:
        body, request = self._body, generation.request
        tools = [{**tool.model_dump(), "strict": bool(tool.strict)} for tool in body.tools]
        text = body.text.model_dump(by_alias=True, exclude_none=True)
        return {
            "id": request.id,
            "object": "response",
            "created_at": request.created,
            "background": False,
            "error": None,
            "frequency_penalty": body.frequency_penalty,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": body.max_tool_calls,
            "metadata": body.metadata,
            "model": request.model,
            "parallel_tool_calls": body.parallel_tool_calls,
            "presence_penalty": body.presence_penalty,
            "previous_response_id": body.previous_response_id,
            "prompt_cache_key": body.prompt_cache_key,
            "reasoning": {"effort": body.reasoning.effort, "summary": None},
            "safety_identifier": body.safety_identifier,
            "service_tier": "default",
            "session_id": request.session_id,
            "store": self.stored,
            "system_fingerprint": generation.lease.ref,
            "arm": generation.lease.arm,
            "temperature": body.temperature,
            "text": text,
            "tool_choice": body.tool_choice
            if isinstance(body.tool_choice, str)
            else body.tool_choice.model_dump(),
            "tools": tools,
            "top_logprobs": body.top_logprobs,
            "top_p": body.top_p,
            "truncation": body.truncation,
            "user": body.user,
        }

    def _item(self, generation: Generation, place: int, part: Part, status: str) -> dict[str, Any]:
        item = {"id": _item_id(generation, place, part), "status": status}
        if part.kind == "reasoning":
            thought = {"type": "reasoning_text", "text": part.text}
            return {**item, "type": "reasoning", "summary": [], "content": [thought]}
        blocks = generation.choices[0].blocks[:place]
        if part.kind == "content":
            # Those of the whole answer, markup and all, are told with its first text.
            told = status != "in_progress" and all(block.kind != "content" for block in blocks)
            said = {
                "type": "output_text",
                "text": part.text,
                "annotations": [],
                "logprobs": self._logprobs(generation.choices[0].deltas if told else ()),
            }
            return {**item, "type": "message", "role": "assistant", "content": [said]}
        before = sum(block.kind == "tool_call" for block in blocks)
        call = {"call_id": call_id(generation, generation.choices[0], before), "name": part.name}
        return {**item, "type": "function_call", **call, "arguments": part.text}

    def _logprobs(self, deltas: Sequence[Delta]) -> list[dict[str, Any]]:
        if not self._body.wants_logprobs:
            return []
        return token_logprobs(self._tokenizer, deltas, "raw")


def _kind(part: Part) -> str:
    return _TEXTS.get(part.kind, "response.function_call_arguments")


def _status(choice: Choice, last: bool) -> str:
    cut = last and choice.finish not in ("stop", "tool_calls")
    return "incomplete" if cut else "completed"


def _item_id(generation: Generation, place: int, part: Part) -> str:
    return f"{PREFIXES[part.kind]}_{stem_of(generation.request.id)}_{place}"
