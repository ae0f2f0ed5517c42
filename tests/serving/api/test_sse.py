"""Events as text: a frame says what encoding its event anew would say."""

from __future__ import annotations

import json

import pytest
from burnish.serving.api.sse import HOLE, Frame, encode, quoted, text_of
from hypothesis import given
from hypothesis import strategies as st


@given(st.text(), st.integers(0))
def test_a_filled_frame_is_its_event_encoded(text: str, number: int) -> None:
    def event(number: object, text: str) -> dict:
        return {"type": "a.delta", "sequence_number": number, "at": 0, "delta": {"text": text}}

    assert Frame(event(HOLE, HOLE)).fill(str(number), quoted(text)) == encode(event(number, text))


@given(st.text())
def test_a_text_is_one_line_and_comes_back(text: str) -> None:
    (line, *rest) = Frame({"text": HOLE}).fill(quoted(text)).split("\n")
    assert rest == ["", ""]
    assert json.loads(line.removeprefix("data: ")) == {"text": text}


def test_a_frame_takes_as_many_values_as_it_has_holes() -> None:
    with pytest.raises(ValueError, match="zip"):
        Frame({"a": HOLE, "b": HOLE}).fill("1")


def test_encoded_events_stay_in_their_order() -> None:
    assert text_of([{"type": "begin"}, 'data: "x"\n\n']) == (
        'event: begin\ndata: {"type":"begin"}\n\ndata: "x"\n\n'
    )
