"""Patterns that work both ways: `{slot}`s are filled to write a line, and read back from one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Pattern:
    """A wording of `kind`; every `{slot}` of `text` becomes a named group of a regular expression."""

    kind: str
    text: str

    def fill(self, slots: Mapping[str, str]) -> str:
        return self.text.format(**slots)

    def read(self, line: str) -> dict[str, str] | None:
        """The slots of a line that this pattern could have written, else None."""
        found = _regex(self.text).fullmatch(line)
        return found.groupdict() if found else None


@cache
def _regex(text: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", text)
    pieces = [
        re.escape(part) if place % 2 == 0 else rf"(?P<{part}>{_slot(part)})"
        for place, part in enumerate(parts)
    ]
    return re.compile("".join(pieces))


def _slot(name: str) -> str:
    """Approaches, attributes and keys may be several words; everything else is one."""
    return r"[\w-]+(?: [\w-]+){0,3}" if name in ("attr", "approach") else r"[\w./@:+-]*[\w/]"
