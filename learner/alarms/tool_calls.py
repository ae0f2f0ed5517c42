"""Whether a tool call failed, as far as the answer itself tells: a call that cannot be read, of a tool that
was not offered, or without the arguments that the tool asks for. Left out: what the tool said of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

BEGINS = "<tool_call>"  # in the text of an answer: a call that could not be read


def failed(
    text: str,
    calls: Sequence[Mapping[str, Any]] | None,
    tools: Sequence[Mapping[str, Any]] | None,
) -> bool | None:
    """Whether one of the answer's calls failed; None where it made none, or no tool was offered."""
    if not tools or not (calls or BEGINS in text):
        return None
    if not calls:
        return True
    offered = {
        str(function.get("name")): function.get("parameters") or {}
        for tool in tools
        if isinstance(function := tool.get("function", tool), Mapping)
    }
    return not all(_fits(call, offered) for call in calls)


def _fits(call: Mapping[str, Any], offered: Mapping[str, Any]) -> bool:
    name = str(call.get("name"))
    if name not in offered:
        return False
    try:
        arguments = json.loads(call.get("arguments") or "{}")
    except (TypeError, ValueError):
        return False
    required = offered[name].get("required") or () if isinstance(offered[name], Mapping) else ()
    return isinstance(arguments, dict) and all(field in arguments for field in required)
