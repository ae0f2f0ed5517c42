"""Families about tools: calling the right one with the right arguments, and using its result."""

import json
import re
from collections.abc import Sequence
from random import Random
from typing import Any

from burnish.learner.tasks.ember.bank import CITIES, NAMES
from burnish.learner.tasks.ember.core import Exercise, Family, function, user

CALCULATOR = function("calculator", "Evaluate arithmetic.", {"expression": "string"})
WEATHER = function("weather", "Weather of a city.", {"city": "string"})
CONTACTS = function("contacts", "Phone number of a person.", {"name": "string"})

_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)


def _sum(rng: Random, level: int) -> str:
    digits = (2, 3, 4)[level - 1]
    numbers = [rng.randint(10 ** (digits - 1), 10**digits - 1) for _ in range(2 + (level == 3))]
    return "".join(f" {rng.choice('+-*')} {n}" for n in numbers)[3:]


def _request(rng: Random, level: int) -> tuple[dict[str, Any], dict[str, str], str]:
    """(tool, arguments, the user's request)"""
    pick = rng.random()
    if pick < 0.6:
        expression = _sum(rng, level)
        prompt = rng.choice(
            (f"What is {expression}?", f"Calculate {expression}.", f"{expression} = ?")
        )
        return CALCULATOR, {"expression": expression}, prompt
    if pick < 0.8:
        city = rng.choice(CITIES)
        prompt = rng.choice(
            (f"How is the weather in {city}?", f"Is it warm in {city}?", f"Weather in {city}?")
        )
        return WEATHER, {"city": city}, prompt
    name = rng.choice(NAMES)
    prompt = rng.choice((f"What is the number of {name}?", f"Find the phone number of {name}."))
    return CONTACTS, {"name": name}, prompt


def _offered(rng: Random, level: int, needed: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    others = [tool for tool in (CALCULATOR, WEATHER, CONTACTS) if tool is not needed]
    tools = [needed, *rng.sample(others, level - 1)]
    rng.shuffle(tools)
    return tuple(tools)


def _tool_call(rng: Random, level: int) -> Exercise:
    tool, arguments, prompt = _request(rng, level)
    name = tool["function"]["name"]
    return Exercise(
        "tool_call",
        (user(prompt),),
        json.dumps({"name": name, "arguments": arguments}),
        tools=_offered(rng, level, tool),
        level=level,
        reason=f"This needs the {name}",
    )


def _tool_result(rng: Random, level: int) -> Exercise:
    tool, arguments, prompt = _request(rng, level)
    name = tool["function"]["name"]
    if tool is CALCULATOR:
        answer = str(rng.randint(10, 10 ** (level + 2)))  # taken as given, not checked
        result: dict[str, Any] = {"result": int(answer)}
    elif tool is WEATHER:
        degrees, sky = rng.randint(0, 35), rng.choice(("rain", "sun", "snow", "wind", "clouds"))
        result = {"degrees": degrees, "sky": sky}
        answer = f"{degrees} degrees and {sky}"
    else:
        answer = str(rng.randint(1000, 10 ** (level + 3)))
        result = {"number": int(answer)}
    call = {
        "id": "call_0",
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments)},
    }
    messages = (
        user(prompt),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": json.dumps(result)},
    )
    shown = json.dumps(result).strip("{}").replace('"', "")
    return Exercise(
        "tool_result", messages, answer, tools=(tool,), level=level,
        reason=f"The {name} says {shown}",
    )  # fmt: skip


def parse_calls(text: str, tool_calls: Sequence[dict[str, Any]] | None) -> list[tuple[str, Any]]:
    """(name, arguments) of each call, from OpenAI's `tool_calls` or from the raw text.

    Raises ValueError where a call is not JSON of the expected shape.
    """
    if tool_calls is None:
        raw = [json.loads(found) for found in _CALL.findall(text)]
    else:
        raw = [call.get("function", call) for call in tool_calls]
    calls = []
    for call in raw:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise ValueError("a call needs a name")
        arguments = call.get("arguments")
        calls.append(
            (call["name"], json.loads(arguments) if isinstance(arguments, str) else arguments)
        )
    return calls


def is_right_call(task: Exercise, text: str, tool_calls: Sequence[dict[str, Any]] | None) -> bool:
    """Whether it makes exactly one call, the right one; spaces inside an expression do not matter."""
    wanted = json.loads(task.answer)
    try:
        calls = parse_calls(text, tool_calls)
    except ValueError:
        return False
    if len(calls) != 1 or calls[0][0] != wanted["name"] or not isinstance(calls[0][1], dict):
        return False

    def squeeze(arguments: dict[str, Any]) -> dict[str, str]:
        return {key: re.sub(r"\s", "", str(value)) for key, value in arguments.items()}

    return squeeze(calls[0][1]) == squeeze(wanted["arguments"])


FAMILIES = (
    Family(
        "tool_call",
        _tool_call,
        frame="I call it",
        warm_frame="Let me look that up",
        calls_tool=True,
        share=1.2,
    ),
    Family("tool_result", _tool_result),
)
