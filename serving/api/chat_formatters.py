"""A generation in OpenAI's response shapes: whole responses, stream chunks, log-probabilities.

`ChatFormatter` is for /v1/chat/completions, `CompletionFormatter` for /v1/completions. Left out:
running the generation and sending it (answering.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from burnish.feedback.ids import stem_of
from burnish.serving.api.answer_parser import Part
from burnish.serving.api.completion_requests import CompletionRequest
from burnish.serving.api.errors import ApiError
from burnish.serving.api.generation import Choice, Generation
from burnish.serving.api.sse import HOLE, Event, Frame, quoted
from burnish.serving.engine import Delta

DONE = "data: [DONE]\n\n"
_TEXTS = {"content": ("content",), "reasoning": ("reasoning", "reasoning_content")}


class ChatFormatter:
    operation = "chat"
    names: Mapping[str, str] = {}
    done = DONE

    def __init__(self, tokenizer: Any, *, logprobs: bool, usage: bool, mode: str = "raw"):
        self._tokenizer = tokenizer
        self._logprobs = logprobs
        self._mode = mode  # the distribution the log-probabilities are of
        self._usage = usage
        self._calls_sent: dict[int, int] = {}
        self._frames: dict[tuple[int, str], Frame] = {}  # of each choice's texts

    def response(self, generation: Generation) -> dict[str, Any]:
        choices = [
            {
                "index": choice.index,
                "message": message_of(generation, choice),
                "logprobs": self._content_logprobs(choice.deltas) if self._logprobs else None,
                "finish_reason": choice.finish,
            }
            for choice in generation.choices
        ]
        return {
            **_head(generation, "chat.completion"),
            "choices": choices,
            "usage": generation.usage(),
        }

    def first_events(self, generation: Generation) -> list[dict[str, Any]]:
        role = {"role": "assistant", "content": ""}
        return [self._chunk(generation, choice, role, None) for choice in generation.choices]

    def events(
        self, generation: Generation, choice: Choice, delta: Delta, parts: list[Part]
    ) -> Sequence[Event | str]:
        if not self._logprobs:
            return [self._piece(generation, choice, part) for part in parts]
        shown = [self._delta(generation, choice, part) for part in parts]
        if not shown and delta.token_ids:
            shown = [{"content": ""}]  # the text is held back, the log-probabilities are not
        chunks = [self._chunk(generation, choice, fields, None) for fields in shown]
        if chunks:
            chunks[0]["choices"][0]["logprobs"] = self._content_logprobs([delta])
        return chunks

    def last_events(self, generation: Generation) -> list[dict[str, Any]]:
        chunks = [
            self._chunk(generation, choice, {}, choice.finish) for choice in generation.choices
        ]
        if self._usage:
            head = _head(generation, "chat.completion.chunk")
            chunks.append({**head, "choices": [], "usage": generation.usage()})
        return chunks

    def error_events(self, generation: Generation, error: ApiError) -> list[dict[str, Any]]:
        return [error.body()]

    def _piece(self, generation: Generation, choice: Choice, part: Part) -> Event | str:
        """The chunk of a part."""
        if part.kind not in _TEXTS:
            return self._chunk(generation, choice, self._delta(generation, choice, part), None)
        if (choice.index, part.kind) not in self._frames:
            open_ = self._delta(generation, choice, Part(part.kind, HOLE))
            frame = Frame(self._chunk(generation, choice, open_, None))
            self._frames[choice.index, part.kind] = frame
        frame = self._frames[choice.index, part.kind]
        return frame.fill(*[quoted(part.text)] * len(_TEXTS[part.kind]))

    def _delta(self, generation: Generation, choice: Choice, part: Part) -> dict[str, Any]:
        if part.kind in _TEXTS:
            return dict.fromkeys(_TEXTS[part.kind], part.text)
        index = self._calls_sent.get(choice.index, 0)
        if not part.name:  # more of the arguments
            piece = {"index": index - 1, "function": {"arguments": part.text}}
            return {"tool_calls": [piece]}
        self._calls_sent[choice.index] = index + 1
        return {"tool_calls": [{"index": index, **_call(generation, choice, index, part)}]}

    def _chunk(
        self, generation: Generation, choice: Choice, delta: dict[str, Any], finish: str | None
    ) -> dict[str, Any]:
        head = _head(generation, "chat.completion.chunk")
        choice_fields = {
            "index": choice.index,
            "delta": delta,
            "logprobs": None,
            "finish_reason": finish,
        }
        usage = {"usage": None} if self._usage else {}
        return {**head, "choices": [choice_fields], **usage}

    def _content_logprobs(self, deltas: Sequence[Delta]) -> dict[str, Any]:
        content = token_logprobs(self._tokenizer, deltas, self._mode)
        return {"content": content, "refusal": None}


class CompletionFormatter:
    """Of one prompt's generation, or of several that are answered together."""

    operation = "text_completion"
    names: Mapping[str, str] = {"messages": "prompt"}
    done = DONE

    def __init__(self, tokenizer: Any, body: CompletionRequest, generations: Sequence[Generation]):
        self._tokenizer = tokenizer
        self._body = body
        self._logprobs = body.logprobs is not None
        self._usage = body.wants_usage
        self._generations = generations
        self._offsets: dict[int, int] = {}
        self._frames: dict[int, Frame] = {}  # of each choice's text

    def response(self, generation: Generation) -> dict[str, Any]:
        told: list[dict[str, Any]] = []
        for each in self._generations:
            for choice in self._best(each):
                shown = self._whole(each, choice)
                if len(self._generations) > 1 or self._body.answers > self._body.n:
                    # As feedback names it.
                    shown |= {"interaction_id": each.request.id, "choice": choice.index}
                told.append({**shown, "index": len(told)})
        return {**_head(generation, "text_completion"), "choices": told, "usage": self._total()}

    def first_events(self, generation: Generation) -> list[dict[str, Any]]:
        if not self._body.echo:
            return []
        text = self._prompt(generation)
        return [
            self._chunk(generation, {**self._choice(choice, text, (), None), "logprobs": None})
            for choice in generation.choices
        ]

    def events(
        self, generation: Generation, choice: Choice, delta: Delta, parts: list[Part]
    ) -> Sequence[Event | str]:
        if not parts and not (self._logprobs and delta.token_ids):
            return []
        if not self._logprobs:
            if choice.index not in self._frames:
                open_ = self._choice(choice, HOLE, (), None)
                self._frames[choice.index] = Frame(self._chunk(generation, open_))
            return [self._frames[choice.index].fill(quoted(delta.text))]
        echoed = generation if delta.prompt else None
        shown = self._choice(choice, delta.text, [delta], None, echoed)
        return [self._chunk(generation, shown)]

    def last_events(self, generation: Generation) -> list[dict[str, Any]]:
        chunks = [
            self._chunk(
                generation, {**self._choice(choice, "", (), choice.finish), "logprobs": None}
            )
            for choice in generation.choices
        ]
        if self._usage:
            chunks.append(
                {**_head(generation, "text_completion"), "choices": [], "usage": generation.usage()}
            )
        return chunks

    def error_events(self, generation: Generation, error: ApiError) -> list[dict[str, Any]]:
        return [error.body()]

    def _best(self, generation: Generation) -> list[Choice]:
        """The choices to tell: the likeliest by the mean of their tokens, if more were drawn."""

        def likelihood(choice: Choice) -> float:
            logprobs = [value for delta in choice.deltas for value in delta.logprobs]
            return sum(logprobs) / max(len(logprobs), 1)

        if self._body.answers == self._body.n:
            return generation.choices
        return sorted(generation.choices, key=likelihood, reverse=True)[: self._body.n]

    def _whole(self, generation: Generation, choice: Choice) -> dict[str, Any]:
        prompt = self._prompt(generation) if self._body.echo else ""
        self._offsets[choice.index] = 0
        return self._choice(choice, prompt + choice.text, choice.deltas, choice.finish, generation)

    def _prompt(self, generation: Generation) -> str:
        if isinstance(given := self._body.prompt, str):
            return given
        ids = generation.request.prompt_ids
        return "".join(_text_of(self._tokenizer, token) for token in ids)

    def _total(self) -> dict[str, Any]:
        usage = [each.usage() for each in self._generations]
        total = {
            key: sum(each[key] for each in usage) for key in usage[0] if key.endswith("tokens")
        }
        details = {
            key: {name: sum(each[key][name] for each in usage) for name in usage[0][key]}
            for key in usage[0]
            if key.endswith("details")
        }
        return total | details

    def _chunk(self, generation: Generation, choice_fields: dict[str, Any]) -> dict[str, Any]:
        usage = {"usage": None} if self._usage else {}
        return {**_head(generation, "text_completion"), "choices": [choice_fields], **usage}

    def _choice(
        self,
        choice: Choice,
        text: str,
        deltas: Sequence[Delta],
        finish: str | None,
        echoed: Generation | None = None,
    ) -> dict[str, Any]:
        """`echoed`: the generation whose prompt stands before the text."""
        logprobs = self._text_logprobs(choice.index, deltas, echoed) if self._logprobs else None
        return {"index": choice.index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    def _text_logprobs(
        self, index: int, deltas: Sequence[Delta], echoed: Generation | None
    ) -> dict[str, Any]:
        scored: list[tuple[int, float | None, Sequence[tuple[int, float]] | None]] = []
        if echoed is not None and self._body.echo:
            first, *rest = echoed.request.prompt_ids
            prompt = [each for delta in deltas for each in delta.prompt]
            scored = [(first, None, None)]  # nothing comes before it
            scored += [(token, *each) for token, each in zip(rest, prompt, strict=True)]
        scored += _tokens(deltas, self._body.logprobs_mode)
        tokens, values, tops, offsets = [], [], [], []
        for token, logprob, top in scored:
            text = _text_of(self._tokenizer, token)
            tokens.append(text)
            values.append(logprob)
            tops.append(None if top is None else {_text_of(self._tokenizer, t): p for t, p in top})
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(text)
        return {
            "tokens": tokens,
            "token_logprobs": values,
            "top_logprobs": tops,
            "text_offset": offsets,
        }


def message_of(generation: Generation, choice: Choice) -> dict[str, Any]:
    """The assistant message of a finished choice."""
    calls = [_call(generation, choice, i, part) for i, part in enumerate(choice.calls)]
    content, reasoning = choice.text_of("content"), choice.text_of("reasoning")
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


def _call(generation: Generation, choice: Choice, index: int, part: Part) -> dict[str, Any]:
    function = {"name": part.name, "arguments": part.text}
    return {"id": call_id(generation, choice, index), "type": "function", "function": function}


def call_id(generation: Generation, choice: Choice, index: int) -> str:
    """Of the choice's call `index`. Made from the answer's id, so that a stream and its record use
    the same one."""
    return f"call_{stem_of(generation.request.id)[:20]}_{choice.index}_{index}"


def _head(generation: Generation, kind: str) -> dict[str, Any]:
    return {
        "id": generation.request.id,
        "object": kind,
        "created": generation.request.created,
        "model": generation.request.model,
        "system_fingerprint": generation.lease.ref,
        "arm": generation.lease.arm,
    }


def token_logprobs(tokenizer: Any, deltas: Sequence[Delta], mode: str) -> list[dict[str, Any]]:
    """Each token with its log-probability and alternatives, under the distribution `mode` names."""
    return [
        {
            **_token(tokenizer, token, logprob),
            "top_logprobs": [_token(tokenizer, t, p) for t, p in top],
        }
        for token, logprob, top in _tokens(deltas, mode)
    ]


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
