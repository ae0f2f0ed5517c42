"""What an untrained rubric sees in a unit: goals, rules, decisions, open questions, values.

Patterns over words that people use for these in any field; nothing is learned. Left out: deciding
(policies/rubric.py).
"""

import re
from enum import IntEnum

from burnish.memory.sessions.rules import rules
from burnish.memory.sessions.units import Unit


class Mark(IntEnum):
    """The most important thing a unit holds; higher is more important."""

    NOTHING = 0
    VALUE = 1
    QUESTION = 2
    DECISION = 3
    GOAL = 4
    RULE = 5


_GOAL = re.compile(
    r"\b(?:goal|aim|objective|deadline|plan(?:s|ning|ned)? to|want(?:s|ed)? to|need(?:s|ed)? to"
    r"|hop(?:e|ing) to|going to|trying to|my task|todo)\b",
    re.IGNORECASE,
)
_DECISION = re.compile(
    r"\b(?:decid\w+|decision|agreed|settled on|chose\w*|picked|we(?:'ll| will) (?:go|use|take)"
    r"|went with|going with|instead of|changed (?:my|our) mind|switched|from now on|no longer)\b",
    re.IGNORECASE,
)
_VALUE = re.compile(r"\d|\b\w+ ?(?:=|:) ?\S|\bis (?:now )?[A-Z]\w+")


def marks_of(unit: Unit) -> Mark:
    """What the unit holds, by the most important of its steps."""
    return max(_mark(step.role, step.content) for step in unit.steps)


def _mark(role: str, text: str) -> Mark:
    if role == "user" and rules(text):
        return Mark.RULE
    if role != "tool":
        for pattern, mark in ((_GOAL, Mark.GOAL), (_DECISION, Mark.DECISION)):
            if pattern.search(text):
                return mark
        if text.rstrip().endswith("?"):
            return Mark.QUESTION
    return Mark.VALUE if _VALUE.search(text) else Mark.NOTHING
