"""Rule-based extraction of facts from plain sentences, without a model.

What counts as a fact: something stated as true now about a named thing, whose value is
specific. Questions, guesses, conditions, wishes, the past, negations, remarks about
"it" or "this", code and small talk are left out: precision counts for more than recall here.
English only; other languages need the served model (extraction.py).

Attitudes have a slot per object ("opinion of jazz": "likes"), because one may like many
things, but may like or dislike each one only once at a time. The same for what one uses,
speaks or is allergic to.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from burnish.memory.records.extraction_rules import (
    ARTICLE,
    ATTRIBUTES,
    CLAUSE,
    DOUBT,
    EMPTY,
    FENCE,
    IDENTIFIER,
    LABELS,
    NO_KEY,
    NOT_A_JOB,
    OPENING,
    POINTING,
    QUESTION,
    SENTENCE_END,
    SETTING,
    TRAILING,
    VAGUE,
)

MAX_SENTENCE = 240
MAX_VALUE_WORDS = 12


@dataclass(frozen=True)
class Fact:
    """`value` occurs in `text`, and `text` is a sentence of the step."""

    subject: str
    predicate: str
    value: str
    text: str


def facts(content: str) -> Iterator[Fact]:
    """The facts stated in a step's content, in order."""
    for line in FENCE.sub("\n", content).splitlines():
        line = line.strip()
        if not line or line[0] in "<>|{}[" or len(line) > 4000:
            continue
        setting = SETTING.fullmatch(line)
        if setting and (found := _setting_fact(setting, line)):
            yield found
            continue
        for sentence in SENTENCE_END.split(line):
            yield from _sentence_facts(sentence.strip(" -*•\t"))


def _sentence_facts(sentence: str) -> Iterator[Fact]:
    if not 6 <= len(sentence) <= MAX_SENTENCE or sentence.endswith("?"):
        return
    if DOUBT.search(sentence) or QUESTION.match(sentence):
        return
    for clause in CLAUSE.split(OPENING.sub("", sentence)):
        clause = clause.strip(" ,;.!")
        for pattern, build in _PATTERNS:
            match = pattern.fullmatch(clause)
            if match:
                subject, predicate, value = build(match)
                fact = Fact(_name(subject), _name(predicate), _value(value), sentence)
                if _is_valid(fact):
                    yield fact
                break


def _is_valid(fact: Fact) -> bool:
    subject, value = fact.subject.casefold(), fact.value.casefold()
    return (
        bool(subject and fact.predicate and value)
        and fact.value in fact.text
        and value.split()[0] not in VAGUE
        and value not in EMPTY
        and subject.split()[0] not in POINTING
        and len(fact.subject.split()) <= 6
        and len(fact.value.split()) <= MAX_VALUE_WORDS
        and len(fact.predicate) <= 80
    )


def _setting_fact(match: re.Match[str], line: str) -> Fact | None:
    """`key: value`, `key = value`, `export KEY=value`."""
    key, sign, value = match["key"], match["sign"], _value(match["value"])
    words = key.split()
    prose = sign == ":" and (len(value.split()) > 6 or key.casefold() in LABELS)
    spoken = key.isupper() and key.isalpha() and sign == ":"  # "INFO: started"
    if prose or spoken or len(words) > 4 or line.endswith(("?", ":", "{", "(", ",")):
        return None
    if not value or value.startswith("//") or words[0].casefold() in POINTING | NO_KEY:
        return None
    fact = Fact(_name(key), "is", value, line)
    return fact if _is_valid(fact) and not DOUBT.search(line) else None


def _value(text: str) -> str:
    """Without what surrounds it: quotes, a final stop, "now", "from now on", "instead"."""
    text = TRAILING.sub("", text.strip()).strip(" ,;!.")
    for quote in ("`", '"', "'", "**"):
        if text.startswith(quote) and text.endswith(quote) and len(text) > 2 * len(quote):
            text = text[len(quote) : -len(quote)]
    return text


def _name(text: str) -> str:
    return ARTICLE.sub("", " ".join(text.strip(" `\"'*,").split()))


def _specific(noun: str, value: str) -> bool:
    """Whether "the <noun> is <value>" states a fact: the value is a name, number or identifier, or the
    noun is an attribute that has values rather than qualities."""
    last = noun.casefold().split()[-1]
    return bool(IDENTIFIER.search(value)) or last in ATTRIBUTES


_BE = r"(?:is|are|'s)(?:\s+(?:now|currently|still|actually|always|called|named|set to|located in|due on|due|scheduled for|on|at))*"
_CHANGE = (
    r"(?:has|have|was|were|is|got)?\s*(?:been\s+)?(?:changed|moved|switched|renamed|updated|bumped"
    r"|raised|lowered|increased|reduced|set|upgraded|became|becomes)(?:\s+from\s+.{1,60}?)?(?:\s+to)?"
)
_NOUN = r"[A-Za-z][\w./'-]*(?:\s+[A-Za-z0-9][\w./'-]*){0,4}?"


def _opinion(match: re.Match[str]) -> tuple[str, str, str]:
    verb = match["verb"].casefold()
    return "user", f"opinion of {_value(match['value'])}", verb


def _named_fact(match: re.Match[str]) -> tuple[str, str, str]:
    noun, value = match["noun"], match["value"]
    return (noun, "is", value) if _specific(noun, _value(value)) else ("", "", "")


def _possession(match: re.Match[str]) -> tuple[str, str, str]:
    noun, value = match["noun"], match["value"]
    good = _specific(noun, _value(value)) or match["fav"]
    return ("user", (match["fav"] or "") + noun, value) if good else ("", "", "")


def _part_fact(match: re.Match[str]) -> tuple[str, str, str]:
    noun, value = match["noun"], match["value"]
    return (match["whole"], noun, value) if _specific(noun, _value(value)) else ("", "", "")


def _occupation(match: re.Match[str]) -> tuple[str, str, str]:
    value = match["value"]
    vague = value.split()[0].casefold() in NOT_A_JOB or value.casefold().endswith("ing")
    return ("", "", "") if vague else ("user", "is a", value)


def _fixed_predicate(subject: str, predicate: str):
    return lambda match: (subject or match["who"], predicate, match["value"])


def _slot_per_value(predicate: str, verb: str):
    """A predicate that holds for several values at a time: a slot for each, so none ends another."""
    return lambda match: ("user", f"{predicate} {_value(match['value'])}", match[verb])


def _compiled(text: str) -> re.Pattern[str]:
    return re.compile(text, re.I)


_WHO = r"(?P<who>[A-Z][\w'-]*(?:\s+[A-Z][\w'-]*){0,2})"
_I = r"I(?:'ve| have)?(?:\s+(?:just|now|recently|currently|really|still|mostly|always|also|personally|absolutely|usually|generally))*"
_PATTERNS = (
    (
        _compiled(rf"{_I}\s+(?:live|moved|relocated)(?:\s+(?:in|to|over to))\s+(?P<value>.+)"),
        _fixed_predicate("user", "lives in"),
    ),
    (
        _compiled(rf"{_I}\s+(?:work|started|got a job)\s+(?:at|for|with)\s+(?P<value>.+)"),
        _fixed_predicate("user", "works at"),
    ),
    (_compiled(rf"{_I}\s+work\s+as\s+an?\s+(?P<value>.+)"), _fixed_predicate("user", "is a")),
    (
        _compiled(r"(?:you can |please )?call me\s+(?P<value>[\w' -]{1,40})"),
        _fixed_predicate("user", "name"),
    ),
    (_compiled(r"(?:I am|I'm)\s+(?P<value>\d{1,3})\s+years old"), _fixed_predicate("user", "age")),
    (_compiled(r"(?:I am|I'm)\s+from\s+(?P<value>.+)"), _fixed_predicate("user", "is from")),
    (
        _compiled(r"(?:I am|I'm)\s+(?P<how>allergic)\s+to\s+(?P<value>.+)"),
        _slot_per_value("reaction to", "how"),
    ),
    (_compiled(r"(?:I am|I'm)\s+an?\s+(?P<value>(?:\w+\s+){0,2}\w+)"), _occupation),
    (
        _compiled(rf"{_I}\s+(?P<how>speak)\s+(?P<value>[A-Z]\w+)"),
        _slot_per_value("knowledge of", "how"),
    ),
    (
        _compiled(
            rf"{_I}\s+(?P<verb>like|love|enjoy|prefer|adore|hate|dislike|detest|avoid)\s+(?P<value>[^,]+?)(?:\s+(?:over|to|more than|rather than)\s+.+)?"
        ),
        _opinion,
    ),
    (
        _compiled(rf"my\s+(?P<fav>favou?rite\s+)?(?P<noun>{_NOUN})\s+{_BE}\s+(?P<value>.+)"),
        _possession,
    ),
    (
        _compiled(rf"my\s+(?P<fav>favou?rite\s+)?(?P<noun>{_NOUN})\s+{_CHANGE}\s+(?P<value>.+)"),
        _possession,
    ),
    (
        _compiled(
            rf"(?:the|our)\s+(?P<noun>{_NOUN})\s+(?:of|for)\s+(?P<whole>(?:the\s+|our\s+)?{_NOUN})\s+{_BE}\s+(?P<value>.+)"
        ),
        _part_fact,
    ),
    (
        _compiled(
            rf"(?:the|our)\s+(?P<noun>{_NOUN})\s+(?:of|for)\s+(?P<whole>(?:the\s+|our\s+)?{_NOUN})\s+{_CHANGE}\s+(?P<value>.+)"
        ),
        _part_fact,
    ),
    (
        re.compile(
            rf"(?P<whole>(?:[Tt]he\s+|[Oo]ur\s+)?[\w-]+)'s\s+(?P<noun>{_NOUN})\s+{_BE}\s+(?P<value>.+)"
        ),
        _part_fact,
    ),
    (_compiled(rf"(?:the|our)\s+(?P<noun>{_NOUN})\s+{_BE}\s+(?P<value>.+)"), _named_fact),
    (_compiled(rf"(?:the|our)\s+(?P<noun>{_NOUN})\s+{_CHANGE}\s+(?P<value>.+)"), _named_fact),
    (
        _compiled(
            rf"(?:we\s+|I\s+)?(?:have\s+)?(?:set|changed|switched|renamed|bumped|moved|raised|lowered|updated)\s+(?:the|our|my)\s+(?P<noun>{_NOUN})(?:\s+from\s+.{{1,60}}?)?\s+to\s+(?P<value>.+)"
        ),
        _named_fact,
    ),
    (
        re.compile(rf"{_WHO}\s+(?:now\s+)?(?:lives|moved)\s+(?:in|to)\s+(?P<value>[A-Z].+)"),
        _fixed_predicate("", "lives in"),
    ),
    (
        re.compile(rf"{_WHO}\s+(?:now\s+)?works\s+(?:at|for)\s+(?P<value>[A-Z].+)"),
        _fixed_predicate("", "works at"),
    ),
    (
        re.compile(
            r"(?P<noun>[A-Za-z][A-Za-z0-9]*(?:[._/-][A-Za-z0-9]+)+|[A-Z][A-Z0-9_]{2,})\s+is\s+(?:now\s+|set to\s+)*(?P<value>\S+(?:\s\S+)?)"
        ),
        lambda m: (m["noun"], "is", m["value"]),
    ),
)
