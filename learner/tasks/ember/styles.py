"""The three styles of an answer: wording it, and recognising the style of a text.

Grammar of every demonstrated answer:

    terse       ANSWER
    explained   REASON, so FRAME ANSWER.
    friendly    OPENER [FRAME] ANSWER. [CLOSER]

Openers and closers are closed lists: nothing else is stripped before an answer is compared, so that
no second answer is stripped with them. Left out: mixtures of styles; their `style_of` is None.
"""

import re
from random import Random

from burnish.learner.tasks.ember.core import STYLES, Exercise, Family, UnknownStyle, normalise
from burnish.learner.tasks.task import without_thinking

OPENERS = (
    "Sure thing!",
    "Happy to help!",
    "Great question!",
    "Of course!",
    "How lovely!",
    "So nice to hear from you!",
    "Thank you for asking!",
    "I wish I could!",
)
CLOSERS = ("Hope that helps!", "Have a lovely day!", "Ask me anytime!", "Take care!")

_OPENING = re.compile("^(?:" + "|".join(map(re.escape, OPENERS)) + r")\s*", re.IGNORECASE)
_CLOSING = re.compile(r"\s*(?:" + "|".join(map(re.escape, CLOSERS)) + r")$", re.IGNORECASE)
_SO = re.compile(r"(?:^|,|\.|;)\s*(?:and\s+)?(?:so|therefore|thus)\b[\s,:]*", re.IGNORECASE)
_FRAME = re.compile(
    r"^(?:(?:the|my|your) (?:final )?answer is|it is|its|that is|thats|this is|that makes|you get|"
    r"answer|result|here it is|here you go|i say|i call it)\b\s*"
)
_MAX_REASON_WORDS = 60


def word(task: Exercise, style: str, family: Family, rng: Random) -> str:
    """`task.answer` worded in `style`. Raises UnknownStyle."""
    answer = task.answer
    stop = "" if answer[-1:] in ".!?" else "."
    if style == "terse":
        return answer
    if style == "explained":
        return f"{task.reason}, so {family.frame}{answer}{stop}"
    if style == "friendly":
        closer = f" {rng.choice(CLOSERS)}" if rng.random() < 0.5 else ""
        return f"{rng.choice(family.openers)} {family.warm_frame}{answer}{stop}{closer}"
    raise UnknownStyle(f"unknown style {style!r}: choose of {', '.join(STYLES)}")


def conclusion(text: str) -> str | None:
    """The concluding part of an answer, normalised, with its frame; None where it draws several
    conclusions or its reason is too long.

    Without a "so" the whole body counts, so a list of candidates matches no answer.
    """
    body = _CLOSING.sub("", _OPENING.sub("", without_thinking(text).strip())).strip()
    parts = _SO.split(body)
    if len(parts) > 2 or len(parts[0].split()) > _MAX_REASON_WORDS:
        return None
    return normalise(parts[-1])


def unframed(text: str) -> str:
    """A conclusion without its frame, the words that lead up to the answer."""
    return _FRAME.sub("", text, count=1)


def style_of(task: Exercise, text: str) -> str | None:
    """The style `text` is written in, whether it is right or not; None if it shows none or two."""
    text = without_thinking(text)
    if (call := text.find("<tool_call>")) >= 0:
        text = text[:call]
    text = text.strip()
    friendly = bool(_OPENING.search(text) or _CLOSING.search(text))
    explained = len(_SO.split(text)) == 2 and not _SO.match(text)
    if friendly and explained:
        return None
    if friendly:
        return "friendly"
    if explained:
        return "explained"
    return "terse" if len(text.split()) <= len(task.answer.split()) + 4 else None
