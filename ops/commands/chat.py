"""`burnish chat`: a streamed conversation in the terminal, with feedback.

A line that starts with / is a command (chat_commands.py). What was typed is remembered across runs in
`$XDG_STATE_HOME/burnish/chat_history`, for the arrow keys. Left out: editing of past turns, and
conversations across runs, which are sessions of memory.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
from burnish.ops.commands.chat_commands import command
from burnish.ops.commands.client import ServiceDown, ServiceError
from burnish.ops.commands.conversation import Conversation
from burnish.ops.commands.markdown_stream import MarkdownStream
from burnish.ops.commands.output import plain, print_json
from rich.console import Console

REMEMBERED = 1000  # lines


def login_name() -> str:
    """Who is at this terminal, as far as the machine knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no entry for its user
        return "terminal"


def run(conversation: Conversation, *, console: Console, as_json: bool = False) -> int:
    """Read lines until there are no more. `as_json`: an object for each turn and command.

    A person is told of a service that is away, and may try again; a script gets ServiceDown.
    """
    interactive = sys.stdin.isatty() and not as_json
    if interactive:
        remember_lines(history_file())
        console.print(f"[dim]{conversation.url}  ({conversation.model})  /help for commands[/dim]")
    while True:
        try:
            line = input("> " if interactive else "").strip()
        except (EOFError, KeyboardInterrupt):
            return 0
        if line in ("/quit", "/exit"):
            return 0
        try:
            if line.startswith("/"):
                said = command(conversation, line)
                if as_json:
                    print_json({"command": line, "said": said}, line=True)
                else:
                    console.print(plain(said), style="dim", markup=False, highlight=False)
            elif line:
                answer(conversation, line, console, as_json=as_json)
        except KeyboardInterrupt:  # closing the stream frees its slot
            console.print("  [dim](stopped)[/dim]")
        except (openai.APIConnectionError, ServiceDown):
            problem = f"no service answers at {conversation.url}; start one with `burnish up`"
            if not interactive:
                raise ServiceDown(problem) from None
            console.print(problem, style="red", markup=False, highlight=False)
        except (openai.APIStatusError, ServiceError) as error:
            if as_json:
                print_json({"error": str(error)}, line=True)
            else:
                console.print(plain(str(error)), style="red", markup=False, highlight=False)


def answer(conversation: Conversation, line: str, console: Console, *, as_json: bool) -> None:
    """Ask, and show the answer while it comes."""
    if as_json:
        for _ in conversation.ask(line):
            pass
        print_json(conversation.turns[-1].as_json(), line=True)
        return
    pieces = conversation.ask(line)
    first = _show_reasoning(pieces, console)
    with MarkdownStream(console) as stream:
        stream.write(first)
        for kind, text in pieces:
            if kind == "content":
                stream.write(text)
    console.print(f"  [dim]{plain(conversation.turns[-1].version or 'unknown')}[/dim]")


def _show_reasoning(pieces: Iterator[tuple[str, str]], console: Console) -> str:
    """Print reasoning dim, up to the first piece of the answer, which is returned."""
    thought = False
    for kind, text in pieces:
        if kind == "content":
            if thought:
                console.print()
            return text
        thought = True
        console.print(plain(text), end="", style="dim", markup=False, highlight=False)
    return ""


def history_file() -> Path:
    """Where typed lines are kept (XDG Base Directory)."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "burnish" / "chat_history"


def remember_lines(file: Path) -> None:
    """Arrow keys go through what was typed, this time and before; where the system has readline."""
    try:
        import readline
    except ImportError:
        return
    import atexit

    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        readline.read_history_file(file)
    except OSError:  # a home that cannot be written: it is remembered for this run
        return
    readline.set_history_length(REMEMBERED)
    atexit.register(readline.write_history_file, file)
