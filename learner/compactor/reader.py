"""A reader without a model: answers a question from the messages of a view, and nothing else.

It parses the visible text line by line (quoted lines too), keeps what the lines state in the order
of the log, and looks the answer up. It knows the wordings (phrases.py) but no world's hidden state.
On a full log it answers everything, so the share of questions it gets right from a view is the
share of the score that the view keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from burnish.learner.compactor.phrases import ALL_FACTS, ALL_QUESTIONS
from burnish.learner.compactor.ruler_worlds import RULER_FACTS, RULER_QUESTIONS

UNKNOWN = "unknown"
_SENTENCE = re.compile(r"\n|(?<=[.!?]) ")
_QUOTED = re.compile(r"> ?(.*)")
_SOURCE = re.compile(r"\[(\d+) (?:system|developer|user|assistant|tool)\b[^\]]*\]")


@dataclass(frozen=True)
class ParsedFact:
    """What one line states."""

    kind: str
    slots: Mapping[str, str]


def answer(question: str, messages: Iterable[Mapping[str, Any]]) -> str:
    """The answer that `messages` support, UNKNOWN where they support none."""
    return answer_from(question, [fact for _, text in sources(messages) for fact in parse(text)])


def sources(messages: Iterable[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """(place, text) of every step shown, in the log's order; quoted steps by their source lines."""
    found: list[tuple[int, list[str]]] = []
    place = 0
    for message in messages:
        cursors = message.get("cursors") or ()
        place = int(cursors[0]) if cursors else place
        found.append((place, []))
        for line in str(message.get("content") or "").splitlines():
            source, quoted = _SOURCE.fullmatch(line), _QUOTED.fullmatch(line)
            if source:
                found.append((int(source[1]), []))
            else:
                found[-1][1].append(quoted[1] if quoted else line)
    found.sort(key=lambda item: item[0])
    return [(place, "\n".join(lines)) for place, lines in found]


@lru_cache(maxsize=65536)
def parse(text: str) -> tuple[ParsedFact, ...]:
    """What one step states, in order."""
    facts: list[ParsedFact] = []
    file: str | None = None
    for line in _SENTENCE.split(text):
        fact = _fact(line.strip())
        if fact is None:
            continue
        if fact.kind == "file":
            file = fact.slots["file"]
        elif fact.kind != "entry":
            facts.append(fact)
        elif file is not None:
            facts.append(ParsedFact("entry", {**fact.slots, "file": file}))
    return tuple(facts)


def _fact(line: str) -> ParsedFact | None:
    for pattern in (*ALL_FACTS, *RULER_FACTS):
        slots = pattern.read(line)
        if slots is not None:
            return ParsedFact(pattern.kind, slots)
    return None


def answer_from(question: str, facts: Sequence[ParsedFact]) -> str:
    """The answer to `question` from facts in the order of the log."""
    kind, slots = _parse_question(question)
    match kind:
        case "state":
            return _last([f for f in facts if _is(f, "state", slots)], "value")
        case "before":
            history = [f for f in facts if _is(f, "state", slots)]
            return _last(history[:-1], "value")
        case "secret":
            return _last([f for f in facts if _is(f, "secret", slots)], "value")
        case "entry":
            return _last([f for f in facts if _is(f, "entry", slots)], "value")
        case "tests":
            return _last([f for f in facts if _is(f, "tests", slots)], "failed")
        case "failed":
            tried = {f.slots["approach"] for f in facts if _is(f, "failed", slots)}
            return ", ".join(sorted(tried)) or UNKNOWN
        case "count":
            ids = {f.slots["id"] for f in facts if _is(f, "event", slots)}
            return str(len(ids)) if ids else UNKNOWN
        case "owned" | "boss":
            return _hops(kind, slots, facts)
        case "needle":
            return _last([f for f in facts if _is(f, "needle", slots)], "value")
        case _:
            return _variables(slots["value"], facts)


def _hops(kind: str, asked: Mapping[str, str], facts: Sequence[ParsedFact]) -> str:
    person = asked["person"]
    if kind == "boss":
        person = _last([f for f in facts if _is(f, "boss", {"person": person})], "boss")
    service = _last([f for f in facts if _is(f, "owner", {"person": person})], "entity")
    slots = {"entity": service, "attr": asked["attr"]}
    return _last([f for f in facts if _is(f, "state", slots)], "value")


def _variables(value: str, facts: Sequence[ParsedFact]) -> str:
    """All variables that hold `value`, over any number of assignments."""
    holds = {f.slots["variable"] for f in facts if _is(f, "assign", {"value": value})}
    while True:
        more = {
            f.slots["variable"] for f in facts if f.kind == "copy" and f.slots["source"] in holds
        }
        if more <= holds:
            return ", ".join(sorted(holds)) or UNKNOWN
        holds |= more


def _parse_question(question: str) -> tuple[str, dict[str, str]]:
    for pattern in (*ALL_QUESTIONS, *RULER_QUESTIONS):
        slots = pattern.read(question)
        if slots is not None:
            return pattern.kind, slots
    raise ValueError(f"not a question this reader knows: {question!r}")


def _is(fact: ParsedFact, kind: str, slots: Mapping[str, str]) -> bool:
    return fact.kind == kind and all(fact.slots.get(k) == v for k, v in slots.items())


def _last(facts: Sequence[ParsedFact], slot: str) -> str:
    return facts[-1].slots[slot] if facts else UNKNOWN
