"""Server-sent events as text (WHATWG HTML, "Server-sent events").

Left out: sending them (answering.py), and what they say (the formatters).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring
from typing import Any

Event = dict[str, Any]
COMMENT = ": waiting\n\n"
HOLE = "\0"  # the value of a member that a frame leaves open
quoted: Callable[[str], str] = encode_basestring
"""A string as JSON."""
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_HOLE = _JSON.encode(HOLE)


class Frame:
    """An event that is sent often with other values: encoded once, around the holes in it."""

    def __init__(self, event: Event) -> None:
        """`event` has HOLE as the value of each member that differs."""
        self._first, *self._rest = encode(event).split(_HOLE)

    def fill(self, *values: str) -> str:
        """The event with these values in its holes, each as JSON."""
        between = [text for pair in zip(values, self._rest, strict=True) for text in pair]
        return "".join((self._first, *between))


def encode(event: Event) -> str:
    """Named by its type, if it has one."""
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {_JSON.encode(event)}\n\n"


def text_of(events: Iterable[Event | str]) -> str:
    """Events one after the other; a string is one that is encoded already."""
    return "".join(event if isinstance(event, str) else encode(event) for event in events)
