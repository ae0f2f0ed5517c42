"""Short forms: the ends of a long step stay, the note says how to read the rest."""

from burnish.memory.sessions.steps import Step
from burnish.memory.views.shorten import clear, shorten
from hypothesis import given
from hypothesis import strategies as st


def step(content: str, role: str = "user") -> Step:
    return Step(id="a", role=role, content=content, seq=12, tokens=len(content), at=0.0)


def test_the_ends_of_a_long_step_stay():
    lines = [f"line {n} of a rather long report" for n in range(100)]
    short = shorten(step("\n".join(lines))).content.splitlines()
    assert short[:4] == lines[:4]
    assert short[-2:] == lines[-2:]
    assert "expand step 12" in short[4]


def test_one_long_line_keeps_both_ends():
    short = shorten(step("a" * 400 + "b" * 400 + "c" * 400)).content
    assert short.startswith("a" * 320)
    assert short.endswith("c" * 160)
    assert "720 characters" in short


def test_only_results_are_cleared():
    assert "step 12" in clear(step("result " * 40, "tool")).content
    assert clear(step("result " * 40)).content == "result " * 40


@given(st.text(alphabet="ab \n", max_size=2000))
def test_never_longer_than_before(content: str):
    for change in (shorten, clear):
        old = step(content, "tool")
        assert len(change(old).content) <= len(content)
        assert (len(change(old).content) == len(content)) == (change(old) is old)
