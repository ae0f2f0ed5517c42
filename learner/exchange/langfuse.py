"""Langfuse's exports: generations and scores, which come as separate rows and are joined here.

Rows in snake case (blob storage) or camel case (API). `input` and `output` may be JSON, or JSON as text. A
score counts for the observation that it names, else for the last generation of its trace.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from burnish.learner.exchange.turns import (
    BrokenRow,
    Opinion,
    RowError,
    Turn,
    chat_of,
    moment_of,
    text_of,
)

LIKED = {"up", "thumbs_up", "positive", "good", "like", "true", "yes"}
DISLIKED = {"down", "thumbs_down", "negative", "bad", "dislike", "false", "no"}
_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")

Place = tuple[str, int]  # file, row


def is_ours(row: Mapping[str, Any]) -> bool:
    return "trace_id" in row or "traceId" in row


class Export:
    """Rows as they come; `turns` joins them."""

    def __init__(self) -> None:
        self._generations: dict[str, tuple[Turn, str]] = {}  # by id; with the trace's
        self._scores: list[tuple[Place, Mapping[str, Any], Opinion]] = []

    def add(self, row: Mapping[str, Any], file: str, number: int) -> None:
        """Raises RowError."""
        row = {_CAMEL.sub(r"_\1", key).lower(): value for key, value in row.items()}
        if "input" not in row and "name" in row and ("value" in row or "string_value" in row):
            self._scores.append(((file, number), row, _opinion(row)))
        elif str(row.get("type", "GENERATION")).upper() == "GENERATION":
            turn = _generation(row)
            self._generations[str(row.get("id"))] = (turn, str(row["trace_id"]))

    def turns(self) -> tuple[list[Turn], list[BrokenRow]]:
        """Every generation with its scores, and the scores that belong to none."""
        of_trace: dict[str, str] = {}
        for id_, (_, trace) in sorted(self._generations.items(), key=lambda item: item[1][0].at):
            of_trace[trace] = id_  # the last one stays
        opinions: dict[str, list[Opinion]] = defaultdict(list)
        broken: list[BrokenRow] = []
        for (file, number), row, opinion in self._scores:
            target = row.get("observation_id") or of_trace.get(str(row["trace_id"]))
            if target in self._generations:
                opinions[target].append(opinion)
            else:
                why = f"trace_id: no generation of {row['trace_id']!r} is among the files"
                broken.append(BrokenRow(file, number, why))
        turns = [
            Turn(**{**vars(turn), "opinions": tuple(opinions[id_])})
            for id_, (turn, _) in self._generations.items()
        ]
        return turns, broken


def _generation(row: Mapping[str, Any]) -> Turn:
    asked, answered = _json(row.get("input")), _json(row.get("output"))
    tools = None
    if isinstance(asked, Mapping):
        tools, asked = asked.get("tools"), asked.get("messages", asked)
    if isinstance(answered, list) and answered:
        answered = answered[-1]
    if isinstance(answered, Mapping):
        answered = answered.get("content", answered)
    return Turn(
        id=f"langfuse/{row['trace_id']}/{row.get('id')}",
        messages=chat_of(asked, "input"),
        answer=text_of(answered, "output"),
        at=moment_of(row.get("start_time"), "start_time"),
        tools=tools,
        user=row.get("user_id"),
        session=row.get("session_id"),
        model=row.get("provided_model_name") or row.get("model"),
    )


def _opinion(row: Mapping[str, Any]) -> Opinion:
    """A score as a judgement: BOOLEAN and words that mean yes or no are thumbs, numbers from 0 to 1 are
    scores (as are -1 and 1, which are thumbs), and what else there is is a comment."""
    kind, value = str(row.get("data_type") or "NUMERIC").upper(), row.get("value")
    word = str(row.get("string_value") or "").strip()
    comment = row.get("comment") or None
    user = row.get("author_user_id")
    at = moment_of(row.get("timestamp") or row.get("created_at"), "timestamp")
    if kind == "BOOLEAN" and value in (0, 1):
        return Opinion("thumbs", "up" if value else "down", comment, user, at)
    if kind == "CATEGORICAL":
        if word.casefold() in LIKED | DISLIKED:
            thumbs = "up" if word.casefold() in LIKED else "down"
            return Opinion("thumbs", thumbs, comment, user, at)
        return Opinion("comment", f"{row['name']}: {word or value}", comment, user, at)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise RowError(f"value: a number is needed, not {value!r:.60}")
    if value == -1:
        return Opinion("thumbs", "down", comment, user, at)
    if not 0 <= value <= 1:
        raise RowError(f"value: from 0 to 1 (or -1) is needed, not {value}")
    return Opinion("score", float(value), comment, user, at)


def _json(value: Any) -> Any:
    """What a text holds as JSON, where that is a chat, a message or a text; "4" is an answer, not a number."""
    if not isinstance(value, str):
        return value
    try:
        read = json.loads(value)
    except ValueError:
        return value
    return read if isinstance(read, list | dict | str) else value
