"""The page's benchmark: what it streams, and how it judges what it saw. Running it takes a browser and minutes."""

import asyncio
from typing import Any

import pytest
from burnish.ops.bench import page
from burnish.ops.bench.lib.page.chromium import Frames
from burnish.ops.bench.lib.page.long_answer import ScriptedEngine, long_answer
from burnish.serving.engine import Request, SamplingParams


def test_a_long_answer_is_markdown_of_every_kind_with_a_few_letters_to_a_token() -> None:
    tokens = long_answer(20_000)
    text = "".join(tokens)
    assert len(tokens) == 20_000
    assert 3 < len(text) / len(tokens) < 5
    for kind in ("\n## ", "\n- ", "\n  - ", "\n1. ", "\n```python\n", "\n|---|", "\n> "):
        assert text.count(kind) > 10, kind


def test_the_engine_says_it_token_by_token_and_no_more_than_is_asked_for() -> None:
    engine = ScriptedEngine(["One", " two", " three"], rate=1e9)

    async def said(limit: int) -> list[tuple[str, str | None]]:
        request = Request("r", (72,), SamplingParams(max_tokens=limit))
        return [(d.text, d.finish_reason) async for d in engine.generate(request)]

    assert asyncio.run(said(10)) == [("One", None), (" two", None), (" three", "stop")]
    assert asyncio.run(said(1)) == [("One", "stop")]
    assert engine.running == []


def test_the_longest_frame_is_the_longest_by_any_watch() -> None:
    assert Frames(gaps=[16.7, 33.3], slow=[81.0], tasks=[60.0]).longest == 81.0
    assert Frames(gaps=[16.7, 150.0], slow=[81.0], tasks=[]).longest == 150.0


def figures(**changes: Any) -> dict[str, Any]:
    told = {
        "tokens": 20_000,
        "streams": [{"longest_ms": 33.4}, {"longest_ms": 16.7}],
        "seconds_to_open": {"session": [0.4, 0.5], "history": [0.9]},
        "asset_bytes": 200_000,
        "requests_elsewhere": [],
    }
    return told | changes


def test_goals_are_met_by_the_slowest_of_all() -> None:
    lines = page.check_goals(figures())
    assert [line.value for line in lines] == [33.4, 0.5, 0.9, 200_000, 0]
    assert all(line.met for line in lines)


@pytest.mark.parametrize(
    "changes",
    [
        {"streams": [{"longest_ms": 16.7}, {"longest_ms": 50.1}]},
        {"seconds_to_open": {"session": [0.2, 1.01]}},
        {"asset_bytes": 200_001},
        {"requests_elsewhere": ["https://example.org/"]},
    ],
)
def test_one_miss_is_a_miss(changes: dict[str, Any]) -> None:
    assert sum(not line.met for line in page.check_goals(figures(**changes))) == 1
