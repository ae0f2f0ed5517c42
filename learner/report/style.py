"""What an answer does, guessed from its text: whether it refuses, whether it ends by asking back.

Heuristics, the first of them for English only. Shares are compared between versions, where most errors
cancel; a share by itself says little.
"""

from __future__ import annotations

import re

from burnish.learner.tasks.task import without_thinking

_APOLOGY = re.compile(
    r"(?:i'm (?:very |really |so )?sorry|sorry|i apologi[sz]e|unfortunately|no)[,.!:;]* (?:but )?"
)
REFUSALS = (
    "i can't", "i cannot", "i can not", "i won't", "i will not", "i'm unable to", "i'm not able to",
    "i'm not allowed to", "i must decline", "i have to decline", "i must refuse", "as an ai",
    "i'm just an ai", "it's not appropriate",
)  # fmt: skip
_BEFORE = " \t\r\n\"'“*_"  # what may stand before an opening
_AFTER = " \t\r\n\"'’”»)]*_`"  # and after a question mark


def refuses(text: str) -> bool:
    """Whether the answer opens as refusals do, with or without an apology."""
    opening = without_thinking(text).lstrip(_BEFORE)[:80].lower().replace("’", "'")
    opening = opening.replace("i am ", "i'm ").replace("it is ", "it's ")
    return opening.removeprefix(_apology(opening)).startswith(REFUSALS)


def asks(text: str) -> bool:
    """Whether the answer ends in a question."""
    return without_thinking(text).rstrip(_AFTER).endswith(("?", "？", "؟"))


def _apology(opening: str) -> str:
    found = _APOLOGY.match(opening)
    return found[0] if found else ""
