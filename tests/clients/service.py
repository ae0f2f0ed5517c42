"""The service that clients meet: every route of ours, and an engine that answers by a script.

What is asked decides what is answered, so that each use of a client has one right outcome.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import AsyncGenerator

from burnish.serving.engine import Delta, QueueFull, Request, StubEngine

HELLO = "Hello there."
SUNNY = "It is sunny in Rome."
PERSON = {"name": "Ada", "age": 36}
PACE_S = 0.05


class ScriptedEngine(StubEngine):
    """`tries`: how often each thing was asked."""

    def __init__(self) -> None:
        super().__init__(self._answer, max_model_len=20_000)
        self.tries: Counter[str] = Counter()

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        slow = "slowly" in newest(request)[1]
        async for delta in _paced(super().generate(request), PACE_S if slow else 0.0):
            yield delta

    def _answer(self, request: Request) -> str:
        role, said = newest(request)
        self.tries[said] += 1
        tools = tools_of(request)
        if role == "tool":
            return SUNNY
        if "busy" in said and self.tries[said] == 1:
            raise QueueFull("come back in a moment")
        if "slowly" in said:
            return "word " * 200
        if "Rome and Oslo" in said and tools:
            return "\n".join(call(tools[0], {"city": city}) for city in ("Rome", "Oslo"))
        if "Rome" in said and tools:
            return call(tools[0], {"city": "Rome"})
        if "Ada" in said:
            return call(tools[0], PERSON) if tools else json.dumps(PERSON)
        return HELLO


async def _paced(deltas: AsyncGenerator[Delta, None], pace_s: float) -> AsyncGenerator[Delta, None]:
    import asyncio

    try:
        async for delta in deltas:
            await asyncio.sleep(pace_s)
            yield delta
    finally:
        await deltas.aclose()


def newest(request: Request) -> tuple[str, str]:
    """Role and text of the message to answer."""
    prompt = bytes(request.prompt_ids).decode()
    role, said = re.findall(r"(?m)^(user|tool): ((?:.|\n)*?)<\|end\|>", prompt)[-1]
    return role, said


def tools_of(request: Request) -> list[str]:
    found = re.match(r"tools: (\[.*\])", bytes(request.prompt_ids).decode())
    return ast.literal_eval(found[1]) if found else []


def call(name: str, arguments: dict) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"
