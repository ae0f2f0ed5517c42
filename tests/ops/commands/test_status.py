"""`burnish status` tells what does not go on as it should."""

from __future__ import annotations

import io
from typing import Any

import pytest
from burnish.ops.commands.status import learner_ticks
from rich.console import Console

TICK = {"at": 0.0, "kind": "update", "seconds": 1.0, "did": "trained nothing", "why_not": "why"}


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"problem": "the intake last looked 95 s ago"}, "the intake last looked 95 s ago"),
        ({"unmatched": 3}, "3 judgements have met no answer and count nothing"),
        ({}, None),
    ],
)
def test_problems_of_the_learner_are_lines(told: dict[str, Any], line: str | None) -> None:
    out = io.StringIO()
    learner = {"why": None, "ticks": [TICK], **told}
    Console(file=out, width=200).print(learner_ticks(learner, 10))
    lines = [text for text in out.getvalue().splitlines() if text.strip()]
    assert len(lines) == (3 if line else 2)
    assert "trained nothing: why" in lines[1]
    assert line is None or line in lines[2]
