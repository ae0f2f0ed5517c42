"""`burnish alarms` in words: what is open first, and how to name it."""

from io import StringIO
from typing import Any

from burnish.ops.commands.alarms import show
from rich.console import Console

ALARM = {
    "id": "alarm-1",
    "version": 3,
    "name": "refusals",
    "says": "answers that refuse: 50 %",
    "opened_at": 0.0,
    "silenced": False,
    "silenced_until": None,
    "closed_at": None,
    "closed_because": None,
}
READINGS = [
    {"state": "quiet", "name": "kl", "says": "KL to the base: 0.1"},
    {"state": "open", "name": "refusals", "says": "answers that refuse: 50 %"},
]


def said(**told: Any) -> str:
    out = StringIO()
    whole = {"available": True, "open": [], "closed": [], "readings": READINGS, **told}
    show(whole, Console(file=out, width=200))
    return out.getvalue()


def test_what_is_open_stands_first_with_its_id():
    text = said(open=[ALARM])
    assert text.startswith("open since 1970-01-01")
    assert "refusals of version 3: answers that refuse: 50 % (alarm-1)" in text
    assert text.index("answers that refuse") < text.index("KL to the base")


def test_a_silenced_one_says_until_when():
    silenced = {**ALARM, "silenced": True, "silenced_until": 86400.0 * 365}
    assert "silenced until 1971-01-01" in said(open=[silenced])


def test_none_open_and_what_closed():
    closed = {**ALARM, "closed_at": 9e8, "closed_because": "version 3 serves no longer"}
    text = said(closed=[closed])
    assert text.startswith("no alarm is open")
    assert "refusals of version 3: version 3 serves no longer" in text


def test_before_the_first_look():
    assert "not looked" in said(available=False, why="the learner has not looked yet")
