"""A turn in OpenAI's shapes: whole answers, stream chunks, log-probabilities.

Two shapes of the same four things, one class each: `ChatShape` for /v1/chat/completions and
`TextShape` for /v1/completions. Left out: running the turn and sending it (routes/chat.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

from burnish.serving.api.chat_template import Part
from burnish.serving.api.generation import Choice, Generation
from burnish.serving.engine import Delta


class Shape(Protocol):
    """How one endpoint words a turn."""

    operation: str

    def whole(self, turn: Generation) -> dict[str, Any]: ...

    def opening(self, turn: Generation) -> list[dict[str, Any]]:
        """Chunks before the first delta."""
        ...

    def chunks(
        self, turn: Generation, choice: Choice, delta: Delta, parts: list[Part]
    ) -> list[dict[str, Any]]: ...

    def closing(self, turn: Generation) -> list[dict[str, Any]]:
        """Chunks with the finish reasons, then usage where it was asked for."""
        ...


class ChatShape:
    operation = "chat"

    def __init__(self, tokenizer: Any, *, logprobs: bool, usage: bool, mode: str = "raw"):
        self._tokenizer = tokenizer
        self._logprobs = logprobs
        self._mode = mode  # the distribution the log-probabilities are of
        self._usage = usage
        self._calls_sent: dict[int, int] = {}

    def whole(self, turn: Generation) -> dict[str, Any]:
        choices = [
            {
                "index": choice.index,
                "message": message_of(turn, choice),
                "logprobs": self._content_logprobs(choice.deltas) if self._logprobs else None,
                "finish_reason": choice.finish,
            }
            for choice in turn.choices
        ]
        return {**_head(turn, "chat.completion"), "choices": choices, "usage": turn.usage()}

    def opening(self, turn: Generation) -> list[dict[str, Any]]:
        role = {"role": "assistant", "content": ""}
        return [self._chunk(turn, choice, role, None) for choice in turn.choices]

    def chunks(
        self, turn: Generation, choice: Choice, delta: Delta, parts: list[Part]
    ) -> list[dict[str, Any]]:
        shown = [self._delta(turn, choice, part) for part in parts]
        if not shown and self._logprobs and delta.token_ids:
            shown = [{"content": ""}]  # the tokens' text is held back; their numbers are not
        made = [self._chunk(turn, choice, fields, None) for fields in shown]
        if made and self._logprobs:
            made[0]["choices"][0]["logprobs"] = self._content_logprobs([delta])
        return made

    def closing(self, turn: Generation) -> list[dict[str, Any]]:
        made = [self._chunk(turn, choice, {}, choice.finish) for choice in turn.choices]
        if self._usage:
            head = _head(turn, "chat.completion.chunk")
            made.append({**head, "choices": [], "usage": turn.usage()})
        return made

    def _delta(self, turn: Generation, choice: Choice, part: Part) -> dict[str, Any]:
        if part.kind == "content":
            return {"content": part.text}
        if part.kind == "reasoning":
            return {"reasoning": part.text, "reasoning_content": part.text}
        index = self._calls_sent.get(choice.index, 0)
        self._calls_sent[choice.index] = index + 1
        return {"tool_calls": [{"index": index, **_call(turn, choice, index, part)}]}

    def _chunk(
        self, turn: Generation, choice: Choice, delta: dict[str, Any], finish: str | None
    ) -> dict[str, Any]:
        head = _head(turn, "chat.completion.chunk")
        one = {"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if self._usage else {}
        return {**head, "choices": [one], **usage}

    def _content_logprobs(self, deltas: Sequence[Delta]) -> dict[str, Any]:
        content = [
            {
                **_token(self._tokenizer, token, logprob),
                "top_logprobs": [_token(self._tokenizer, t, p) for t, p in top],
            }
            for token, logprob, top in _tokens(deltas, self._mode)
        ]
        return {"content": content, "refusal": None}


class TextShape:
    operation = "text_completion"

    def __init__(self, tokenizer: Any, *, logprobs: bool, usage: bool, mode: str = "raw"):
        self._tokenizer = tokenizer
        self._logprobs = logprobs
        self._mode = mode  # the distribution the log-probabilities are of
        self._usage = usage
        self._offsets: dict[int, int] = {}

    def whole(self, turn: Generation) -> dict[str, Any]:
        choices = [
            self._one(choice, choice.text, choice.deltas, choice.finish) for choice in turn.choices
        ]
        return {**_head(turn, "text_completion"), "choices": choices, "usage": turn.usage()}

    def opening(self, turn: Generation) -> list[dict[str, Any]]:
        return []

    def chunks(
        self, turn: Generation, choice: Choice, delta: Delta, parts: list[Part]
    ) -> list[dict[str, Any]]:
        if not parts and not (self._logprobs and delta.token_ids):
            return []
        return [self._chunk(turn, self._one(choice, delta.text, [delta], None))]

    def closing(self, turn: Generation) -> list[dict[str, Any]]:
        made = [
            self._chunk(turn, {**self._one(choice, "", (), choice.finish), "logprobs": None})
            for choice in turn.choices
        ]
        if self._usage:
            made.append({**_head(turn, "text_completion"), "choices": [], "usage": turn.usage()})
        return made

    def _chunk(self, turn: Generation, one: dict[str, Any]) -> dict[str, Any]:
        usage = {"usage": None} if self._usage else {}
        return {**_head(turn, "text_completion"), "choices": [one], **usage}

    def _one(
        self, choice: Choice, text: str, deltas: Sequence[Delta], finish: str | None
    ) -> dict[str, Any]:
        logprobs = self._text_logprobs(choice.index, deltas) if self._logprobs else None
        return {"index": choice.index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    def _text_logprobs(self, index: int, deltas: Sequence[Delta]) -> dict[str, Any]:
        tokens, values, tops, offsets = [], [], [], []
        for token, logprob, top in _tokens(deltas, self._mode):
            text = _text_of(self._tokenizer, token)
            tokens.append(text)
            values.append(logprob)
            tops.append({_text_of(self._tokenizer, t): p for t, p in top})
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(text)
        return {
            "tokens": tokens,
            "token_logprobs": values,
            "top_logprobs": tops,
            "text_offset": offsets,
        }


def message_of(turn: Generation, choice: Choice) -> dict[str, Any]:
    """The assistant message of a finished choice."""
    calls = [_call(turn, choice, i, part) for i, part in enumerate(choice.calls)]
    content, reasoning = choice.said("content"), choice.said("reasoning")
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content or (None if calls else ""),
        "refusal": None,
    }
    if reasoning:
        message |= {"reasoning": reasoning, "reasoning_content": reasoning}
    if calls:
        message["tool_calls"] = calls
    return message


def _call(turn: Generation, choice: Choice, index: int, part: Part) -> dict[str, Any]:
    # Made from the answer's id, so that a stream and its record agree without talking.
    name = turn.question.id.removeprefix("chatcmpl-")[:20]
    function = {"name": part.name, "arguments": part.text}
    return {"id": f"call_{name}_{choice.index}_{index}", "type": "function", "function": function}


def _head(turn: Generation, kind: str) -> dict[str, Any]:
    return {
        "id": turn.question.id,
        "object": kind,
        "created": turn.question.created,
        "model": turn.question.model,
        "system_fingerprint": turn.lease.ref,
    }


def _tokens(
    deltas: Sequence[Delta], mode: str
) -> list[tuple[int, float, Sequence[tuple[int, float]]]]:
    found: list[tuple[int, float, Sequence[tuple[int, float]]]] = []
    for delta in deltas:
        top = delta.top or ((),) * len(delta.token_ids)
        values = delta.logprobs if mode == "raw" else delta.processed_logprobs
        found += zip(delta.token_ids, values, top, strict=True)
    return found


def _token(tokenizer: Any, token: int, logprob: float) -> dict[str, Any]:
    raw = bytes_of(tokenizer, token)
    text = raw.decode("utf-8", "replace")
    # -inf is no JSON; OpenAI writes a number that no real token has.
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(raw)}


def _text_of(tokenizer: Any, token: int) -> str:
    return bytes_of(tokenizer, token).decode("utf-8", "replace")


def bytes_of(tokenizer: Any, token: int) -> bytes:
    """The bytes a token stands for, which for byte-level vocabularies may be part of a character."""
    piece = tokenizer.convert_ids_to_tokens(token)
    alphabet = _byte_alphabet()
    if isinstance(piece, str) and all(char in alphabet for char in piece):
        return bytes(alphabet[char] for char in piece)
    return tokenizer.decode([token]).encode()


@lru_cache(maxsize=1)
def _byte_alphabet() -> dict[str, int]:
    """GPT-2's mapping of bytes to printable characters, which byte-level vocabularies are written in."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}
