"""A long answer in markdown, as a model would write one, and an engine that says it at a steady pace."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import count

from burnish.serving.engine import StubEngine
from burnish.serving.engine.types import Delta, Request

# A token is a few letters with the blank before them, one mark, or the blanks between: some four characters.
_TOKEN = re.compile(r" ?\w{1,9}|[^\w\s]+|\s+")
_TEXT = (
    "the answer of a request is kept beside its version so that a later judgement finds what it is about and"
    " nothing has to be looked up twice when many people ask at once"
)
_WORDS = _TEXT.split()


def long_answer(tokens: int) -> list[str]:
    """The tokens of an answer: headings, paragraphs, lists within lists, tables, code and quotations in turn."""
    found: list[str] = []
    for number in count(1):
        found += _TOKEN.findall(_section(number))
        if len(found) >= tokens:
            return found[:tokens]
    raise AssertionError("unreachable")


def _section(number: int) -> str:
    return "\n\n".join(
        (
            f"## {number}. How part {number} works",
            f"{_prose(number, 60)} See [the notes](https://example.org/{number}) for **more**.",
            "\n".join(
                f"- **Step {n}**: {_prose(n, 12)}\n  - `check_{n}()` first\n  - then {_prose(n + 3, 6)}"
                for n in range(1, 6)
            ),
            "```python\n" + "\n".join(_code(number)) + "\n```",
            "| name | value | what for |\n|---|---:|---|\n"
            + "\n".join(f"| `part_{n}` | {n * number} | {_prose(n, 5)} |" for n in range(12)),
            "\n".join(f"{n}. {_prose(n + number, 14)}" for n in range(1, 9)),
            f"> {_prose(number + 5, 30)}",
            f"{_prose(number + 9, 90)} *In short*: `part_{number}` ~~fails~~ works.",
        )
    ) + "\n\n"  # fmt: skip


def _prose(start: int, words: int) -> str:
    return " ".join(_WORDS[(start * 7 + n) % len(_WORDS)] for n in range(words)).capitalize() + "."


def _code(number: int) -> Iterator[str]:
    yield f"def part_{number}(rows: list[int]) -> int:"
    yield '    """What is left of the rows, added up."""'
    yield "    total = 0"
    for n in range(24):
        yield f"    total += sum(row * {n} for row in rows if row % {n + 2})  # the {n}th kind"
    yield "    return total"


class ScriptedEngine(StubEngine):
    """Says one answer, `rate` tokens a second, to whoever asks."""

    def __init__(self, tokens: Sequence[str], rate: float) -> None:
        super().__init__("".join(tokens), max_model_len=1_000_000)
        self._said, self._rate = tokens, rate

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Deltas of one token each, late ones at once."""
        self._admit(request, limit=True)
        began = time.monotonic()
        last = min(len(self._said), request.params.max_tokens) - 1
        try:
            for place, text in enumerate(self._said[: last + 1]):
                await asyncio.sleep(max(0.0, began + place / self._rate - time.monotonic()))
                yield Delta(text, (0,), (-0.5,), (-0.5,), ((),), "stop" if place == last else None)
        finally:
            self.running.remove(request)
