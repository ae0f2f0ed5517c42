"""The types of ember's families: Exercise, Family, their errors, and chat messages as dicts."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from burnish.learner.tasks.task import Split, TaskError, key_of, split_of

STYLES = ("terse", "explained", "friendly")


class UnknownFamily(TaskError, KeyError):
    """A family name that the catalogue does not have."""


class UnknownStyle(TaskError, ValueError):
    """A style other than the three of `STYLES`."""


@dataclass(frozen=True)
class Exercise:
    """A chat whose next message, the assistant's, can be checked.

    `answer` is the shortest right answer, `also` other wordings of it that are as right, `reason`
    a few words from which it follows (part of the explained style, and of thinking).
    """

    family: str
    messages: tuple[dict[str, Any], ...]
    answer: str
    tools: tuple[dict[str, Any], ...] | None = None
    level: int = 1
    reason: str = ""
    also: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The prompt as one string: equal keys are the same prompt."""
        return key_of(self.messages, self.tools)

    @property
    def split(self) -> Split:
        return split_of(self.key)


@dataclass(frozen=True)
class Family:
    """A kind of task. `make` draws one of a level, 1 (easiest) to 3."""

    name: str
    make: Callable[[Random, int], Exercise]
    frame: str = "the answer is "  # leads up to the answer in the explained style
    warm_frame: str = "The answer is "  # and in the friendly one
    openers: tuple[str, ...] = ("Sure thing!", "Happy to help!", "Great question!", "Of course!")
    thinks: bool = False  # its demonstrations may have a think block
    calls_tool: bool = False  # the right answer is a tool call
    share: float = 1.0  # of the training text, relative to the others


def normalise(text: str) -> str:
    """Lower case, no punctuation that could not change an answer, single spaces."""
    text = re.sub(r"(?<=\d),(?=\d{3}\b(?!,))", "", text) if text.count(",") == 1 else text
    text = re.sub(r"[\"'`*,;:!?’“”]", " ", text.lower().replace("'", "").replace("’", ""))
    text = re.sub(r"\.(?!\d)", " ", text)
    return " ".join(text.split())


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def function(name: str, description: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    """A tool in OpenAI's shape; `parameters` maps names to JSON types, all required."""
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {key: {"type": kind} for key, kind in parameters.items()},
                "required": list(parameters),
            },
        },
    }
