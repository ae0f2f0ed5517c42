"""A verifiable task: a chat, and a check of the message that answers it.

Whether a task is for training or held out follows from a hash of its prompt, so it never changes.

    TaskError
    ├── PackError (ValueError)      a pack, a line or a generator that cannot be used: where, and why
    └── CheckFailed                 a checker raised, or said neither yes nor no, about one answer
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from burnish.learner.tasks.time_limit import time_limit

Split = Literal["train", "heldout"]
Check = Callable[[str], bool]
"""Whether the text of an answer is right, whatever else it says; thinking is cut off before."""

HELDOUT_SHARE = 0.1

_THINKING = re.compile(r"^\s*(?:<think>)?.*?</think>\s*", re.DOTALL)


class TaskError(Exception):
    """Base of the errors of the task folder."""


class PackError(TaskError, ValueError):
    """A pack, a line of one, or a generator that cannot be used; one line: where, and why."""


class CheckFailed(TaskError):
    """A checker gave no verdict on an answer; one line: whose, and why."""


@dataclass(frozen=True)
class Task:
    """A chat whose next message, the assistant's, can be checked. `level` 1 is the easiest."""

    family: str
    messages: tuple[Mapping[str, Any], ...]
    check: Check = field(compare=False, repr=False)
    tools: tuple[Mapping[str, Any], ...] | None = None
    level: int = 1

    @property
    def key(self) -> str:
        """The prompt as one string: equal keys are the same prompt."""
        return key_of(self.messages, self.tools)

    @property
    def split(self) -> Split:
        return split_of(self.key)

    def is_correct(self, answer: str) -> bool:
        """Whether an answer is right. Raises CheckFailed where its checker gives no verdict."""
        try:
            with time_limit():
                verdict = self.check(without_thinking(answer))
        except Exception as error:
            # A checker is other people's code: what it raises is told, and costs one verdict.
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise CheckFailed(f"the checker of {self.family} raised {why}") from error
        if not isinstance(verdict, bool):
            raise CheckFailed(f"the checker of {self.family} returned {verdict!r}, not a bool")
        return verdict


def key_of(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None) -> str:
    return json.dumps([messages, tools], sort_keys=True)


def split_of(key: str) -> Split:
    """One prompt in ten is held out."""
    return "heldout" if rank(key) < HELDOUT_SHARE else "train"


def rank(key: str) -> float:
    """A number in [0, 1) that a prompt's key alone decides, evenly spread."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def without_thinking(text: str) -> str:
    return _THINKING.sub("", text, count=1) if "</think>" in text else text
