"""Calling a tool: the one that fits of those that are offered, with what the request says."""

from __future__ import annotations

from random import Random
from typing import Any

from burnish.learner.tasks import checks
from burnish.learner.tasks.general.words import CITIES, COLOURS, NAMES, THINGS
from burnish.learner.tasks.task import Task


def tool_calls(rng: Random, level: int) -> Task:
    """One call; at level 2 and 3 among other tools, and with more to fill in."""
    name, thing, city = rng.choice(NAMES), rng.choice(THINGS), rng.choice(CITIES)
    count, colour = rng.randint(2, 40), rng.choice(COLOURS)
    wanted, asked, arguments = rng.choice(
        (
            ("weather", f"How is the weather in {city}?", {"city": city}),
            ("phone_number", f"What is the phone number of {name}?", {"name": name}),
            (
                "order",
                f"Please order {count} {colour} {thing} for {name}.",
                {"item": thing, "count": count, "colour": colour, "name": name},
            ),
        )
    )
    arguments = dict(list(arguments.items())[: 1 + level])
    offered = {wanted: arguments}
    others = [tool for tool in ARGUMENTS if tool != wanted]
    offered |= {other: ARGUMENTS[other] for other in rng.sample(others, level - 1)}
    tools = [_function(tool, offered[tool]) for tool in rng.sample(list(offered), len(offered))]
    messages = ({"role": "user", "content": asked},)
    return Task("", messages, checks.tool_call(wanted, arguments), tools=tuple(tools))


DESCRIPTIONS = {
    "weather": "The weather in a city.",
    "phone_number": "The phone number of a person.",
    "order": "Order some things.",
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "weather": {"city": ""},
    "phone_number": {"name": ""},
    "order": {"item": "", "count": 1},
}


def _function(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """As OpenAI's API writes it; types are those of the arguments' values."""
    properties = {
        key: {"type": "integer" if isinstance(value, int) else "string"}
        for key, value in arguments.items()
    }
    parameters = {"type": "object", "properties": properties, "required": list(arguments)}
    about = {"name": name, "description": DESCRIPTIONS[name], "parameters": parameters}
    return {"type": "function", "function": about}


GENERATORS = {"tool_calls": tool_calls}
