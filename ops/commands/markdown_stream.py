"""Markdown on a terminal while it streams in.

Blocks that nothing can change any more are printed for good; only the last one is drawn again as it
grows, so that an answer costs by its length, not by its length squared. Left out: links to click on,
images, and HTML, which is shown as text. Where the output is no terminal, the text goes through as it is.
"""

from __future__ import annotations

from types import TracebackType

from burnish.ops.commands.output import plain
from markdown_it import MarkdownIt
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

DRAWS_A_SECOND = 8
_parser = MarkdownIt().enable("table")


def settled_lines(text: str) -> int:
    """How many of the first lines belong to blocks that more text cannot change: all but the last."""
    blocks = [token for token in _parser.parse(text) if token.level == 0 and token.map]
    if len(blocks) < 2:
        return 0
    lines, starts = text.split("\n"), [token.map[0] for token in blocks if token.map]
    # A line that is not at its end yet may turn out to belong to the block right above it.
    unsure = starts[-1] == len(lines) - 1 and lines[starts[-1] - 1].strip()
    return starts[-2] if unsure else starts[-1]


class MarkdownStream:
    """A context in which `write` takes the pieces of one answer."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._open = ""  # what is not printed for good
        self._live = (
            Live(console=console, refresh_per_second=DRAWS_A_SECOND, transient=True)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> MarkdownStream:
        if self._live:
            self._live.start()
        return self

    def write(self, piece: str) -> None:
        piece = plain(piece)
        if self._live is None:
            self._console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)
            return
        self._open += piece
        if "\n" in piece:
            self._settle()
        self._live.update(self._tail())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is None:
            return
        self._live.stop()
        if self._open.strip():
            self._console.print(markdown(self._open))

    def _settle(self) -> None:
        assert self._live is not None
        lines = self._open.splitlines(keepends=True)
        count = settled_lines(self._open)
        if count:
            self._live.console.print(markdown("".join(lines[:count])))
            self._open = "".join(lines[count:])

    def _tail(self) -> Markdown | Text:
        """What is still open; of a block taller than the screen its end."""
        rows = max(4, self._console.height - 4)
        lines = self._open.splitlines()
        return Text("\n".join(lines[-rows:])) if len(lines) > rows else markdown(self._open)


def markdown(text: str) -> Markdown:
    return Markdown(text, hyperlinks=False, code_theme="ansi_dark")
