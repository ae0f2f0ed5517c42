"""Plain rows: logs of one's own, our export's rows, and the KTO, DPO and SFT rows that TRL reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from burnish.learner.exchange.turns import Opinion, RowError, Turn, chat_of, moment_of, text_of

OPINIONS = ("thumbs", "score", "correction", "comment")


def turns(row: Mapping[str, Any]) -> Iterator[Turn]:
    """The turns of one row; one without an id is known by what it holds. Raises RowError."""
    id_ = str(row.get("id") or _digest(row))
    if "chosen" in row or "rejected" in row:
        for name, thumbs in (("chosen", "up"), ("rejected", "down")):
            messages, answer = _split(row.get("prompt"), row.get(name), name)
            yield _turn(f"{id_}/{name}", row, messages, answer, (_said(row, "thumbs", thumbs),))
        return
    if "messages" in row:
        chat = chat_of(row["messages"], "messages")
        if chat[-1]["role"] != "assistant" or not chat[:-1]:
            raise RowError("messages: it must end in an answer of the assistant")
        messages, answer = list(chat[:-1]), text_of(chat[-1].get("content"), "messages.content")
    elif "prompt" in row:
        messages, answer = _split(row["prompt"], row.get("completion"), "completion")
    else:
        raise RowError("neither messages nor prompt, chosen or an export's fields")
    yield _turn(id_, row, messages, answer, tuple(_opinions(row)))


def _opinions(row: Mapping[str, Any]) -> Iterator[Opinion]:
    if isinstance(row.get("label"), bool):
        yield _said(row, "thumbs", "up" if row["label"] else "down")
    for name in OPINIONS:
        if row.get(name) is not None:
            yield _said(row, name, row[name])


def _said(row: Mapping[str, Any], name: str, value: Any) -> Opinion:
    if not isinstance(value, str | int | float):
        raise RowError(f"{name}: a text or a number is needed, not {value!r:.60}")
    return Opinion(name, value, user=row.get("user"), at=moment_of(row.get("at"), "at"))


def _split(prompt: Any, completion: Any, name: str) -> tuple[list[Mapping[str, Any]], str]:
    """Prompt and answer; TRL's implicit form has the whole chat, prompt and all, in the answer."""
    answer = completion
    if isinstance(completion, list):
        chat = chat_of(completion, name)
        answer = text_of(chat[-1].get("content"), name)
        if prompt is None:
            prompt = list(chat[:-1])
    if not isinstance(answer, str):
        raise RowError(f"{name}: a text or a list of messages is needed")
    return list(chat_of(prompt, "prompt")), answer


def _turn(
    id_: str,
    row: Mapping[str, Any],
    messages: list[Mapping[str, Any]],
    answer: str,
    opinions: tuple[Opinion, ...],
) -> Turn:
    return Turn(
        id=f"plain/{id_}",
        messages=messages,
        answer=answer,
        at=moment_of(row.get("at"), "at"),
        opinions=opinions,
        tools=_tools(row.get("tools")),
        user=row.get("user"),
        session=row.get("session"),
        model=row.get("model"),
    )


def _tools(value: Any) -> Any:
    """A list of tools, which TRL's rows keep as JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise RowError(f"tools: this is no JSON: {value:.60}") from error


def _digest(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:24]
