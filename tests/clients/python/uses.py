"""What every client is tried at, and how a script of a client runs: `python CLIENT.py URL`.

A script has a function for each use, which raises where the outcome is wrong. One line of JSON is
printed for each: {"use": ..., "error": null or what went wrong}.
"""

from __future__ import annotations

import inspect
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

USES = ("chat", "stream", "tool", "parallel", "strict", "structured", "abort", "error", "retry")
HELLO, SUNNY = "Hello there.", "It is sunny in Rome."
ROME, BOTH = "Weather in Rome?", "Weather in Rome and Oslo?"
PERSON, SLOW, BUSY = "Who is Ada?", "Count slowly.", "Are you busy? {}"
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def check(got: Any, wanted: Any) -> None:
    if got != wanted:
        raise AssertionError(f"{got!r} instead of {wanted!r}")


def raises(kind: type[BaseException], call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def run(uses: dict[str, Callable[..., Any]]) -> None:
    """`uses`: name -> function of the service's URL."""
    import asyncio

    for use in USES:
        error = None
        try:
            outcome = uses[use](sys.argv[1])
            if inspect.isawaitable(outcome):
                asyncio.run(_awaited(outcome))
        except Exception:  # noqa: BLE001 - what went wrong is the outcome
            error = traceback.format_exc()
        print(json.dumps({"use": use, "error": error}), flush=True)


async def _awaited(outcome: Any) -> None:
    await outcome
