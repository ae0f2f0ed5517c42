"""What all commands share: their options, `--json`, and the exit codes.

    0    done
    1    refused, failed, or a check that found something: the reason is on standard error, or in the table
    2    a flag or a setting is wrong; the line names it
    3    no service answers
    130  interrupted (Ctrl-C)

With `--json` standard output is one JSON document (of `status --watch` and `export` one a line) and
nothing else; errors stay on standard error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

DONE, FAILED, WRONG_USE, NO_SERVICE, INTERRUPTED = 0, 1, 2, 3, 130

DataDir = Annotated[Path | None, typer.Option(help="Data folder (BURNISH_DATA_DIR, .burnish).")]
Url = Annotated[str | None, typer.Option(help="The service to talk to (BURNISH_URL).")]
Policy = Annotated[str, typer.Option(help="Which policy.")]
Why = Annotated[str, typer.Option(help="The reason, for the audit log.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, on standard output.")]


def print_json(value: Any, *, line: bool = False) -> None:
    """`value` on standard output: indented, or as one line of several."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=None if line else 1, default=str)
    sys.stdout.write("\n")
    sys.stdout.flush()


def told_to(console: Console, as_json: bool) -> Console:
    """Where progress is told: nowhere, where standard output is to be one JSON document."""
    return Console(quiet=True) if as_json else console


def plain(text: str) -> str:
    """Text of others without control characters: none of them may move the cursor or set a title."""
    return text.translate(_CONTROLS)


_CONTROLS = dict.fromkeys({*range(32), *range(127, 160)} - {ord("\n"), ord("\t")})
