"""`burnish status` tells what does not go on as it should."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from burnish.ops.commands.status import learner_ticks, read, shown, watch
from burnish.ops.settings import UpSettings
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


def nobody(tmp_path: Path) -> UpSettings:
    return UpSettings(url="http://127.0.0.1:9", data_dir=tmp_path)


def test_a_service_that_is_away_is_said(tmp_path: Path) -> None:
    told = read(nobody(tmp_path), 10)
    out = io.StringIO()
    Console(file=out, width=200).print(shown(told, 10))
    assert "no service answers at http://127.0.0.1:9" in out.getvalue()


def test_a_watch_goes_on_while_a_service_is_away(tmp_path: Path, capsys) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(nobody(tmp_path), console=Console(), ticks=10, every_s=2.0, as_json=True, sleep=sleep)
    lines = capsys.readouterr().out.splitlines()
    assert waits == [2.0] * 3
    assert all("no service answers" in json.loads(line)["problem"] for line in lines)
    assert len(lines) == 3
