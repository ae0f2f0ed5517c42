"""Markdown in the terminal: settled blocks are printed once, and text of others moves no cursor."""

from __future__ import annotations

import io

from burnish.ops.commands.markdown_stream import MarkdownStream, settled_lines
from burnish.ops.commands.output import plain
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

ANSWER = """# Sums

One and one is **two**.

```python
x = 1

y = 2
```

- a
- b

The end."""


def stream(text: str, piece: int, *, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, width=60, height=30, force_terminal=terminal, color_system=None)
    with MarkdownStream(console) as shown:
        for at in range(0, len(text), piece):
            shown.write(text[at : at + piece])
    return out.getvalue()


def test_a_fence_with_an_empty_line_is_one_block() -> None:
    until = ANSWER.index("y = 2")
    assert ANSWER[:until].splitlines()[settled_lines(ANSWER[:until])] == "```python"


def test_the_last_block_is_never_settled() -> None:
    assert settled_lines("one paragraph\nof two lines") == 0
    assert settled_lines("one\n\ntwo") == 2


@given(st.text(alphabet="ab`#-> \n*|1.", max_size=60), st.text(alphabet="ab` \n", max_size=20))
def test_more_text_changes_no_settled_block(text: str, more: str) -> None:
    """A reference that is defined later would; models hardly use them."""
    count = settled_lines(text)
    assert settled_lines(text + more) >= count


def test_a_terminal_gets_formatted_text_and_every_block_once() -> None:
    shown = stream(ANSWER, 7, terminal=True)
    for word in ("Sums", "two", "x = 1", "The end."):
        assert word in shown
    assert "**two**" not in shown.split("The end.")[-1]


def test_a_pipe_gets_the_text_as_it_is() -> None:
    assert stream(ANSWER, 7, terminal=False) == ANSWER


def test_control_characters_are_taken_out() -> None:
    assert plain("a\x1b]0;title\x07b\x9b2Jc\rd\ne\tf") == "a]0;titleb2Jcd\ne\tf"
    assert "\x1b" not in stream("\x1b[2J\x1b]52;c;aGk=\x07hi", 3, terminal=False)
