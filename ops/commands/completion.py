"""`burnish completion SHELL`: the script that makes a shell complete commands, options and values."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer import completion as typers

PROGRAM = "burnish"
VARIABLE = "_BURNISH_COMPLETE"  # by which the script asks the program


class Shell(StrEnum):
    bash = "bash"
    zsh = "zsh"
    fish = "fish"


typers.completion_init()  # pyright: ignore[reportPrivateImportUsage] - or the scripts would ask in vain


def completion(
    shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.", show_choices=False)],
) -> None:
    """Print a script that completes commands and options; your shell's start-up file should run it.

    bash: eval "$(burnish completion bash)"    zsh: eval "$(burnish completion zsh)"
    fish: burnish completion fish | source
    """
    script = typers.get_completion_script  # pyright: ignore[reportPrivateImportUsage]
    print(script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value))
