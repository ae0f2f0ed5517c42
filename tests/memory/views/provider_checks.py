"""The checks that OpenAI's and Anthropic's chat APIs make of a conversation, for a view's messages.

OpenAI: an assistant message with `tool_calls` is followed by a tool message for each id, and no tool
message stands elsewhere. Anthropic: the same of tool_use and tool_result, ids unique in the whole
request, no empty text.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def assert_valid(messages: Sequence[Mapping[str, Any]]) -> None:
    waiting: set[str] = set()
    used: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting, "a result without its call, or a second one"
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting, f"calls without results: {waiting}"
        ids = [call["id"] for call in message.get("tool_calls", ())]
        assert not used.intersection(ids), "a call's id is used twice"
        assert len(ids) == len(set(ids))
        assert ids or message["content"].strip(), "an empty message"
        used.update(ids)
        waiting = set(ids)
    assert not waiting, f"calls without results: {waiting}"
