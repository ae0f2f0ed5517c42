"""What holds for every command: JSON on request, documented exit codes, suggestions only where near."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from burnish.ops.cli import app
from burnish.ops.settings import SettingsError, reject_unknown
from typer.main import get_command
from typer.testing import CliRunner

# Servers, runs that write their own files, and what is a script or rows already.
WITHOUT_JSON = {
    "up", "kafka", "mcp", "simulate", "pretrain", "train-compactor", "export", "completion",
}  # fmt: skip


def commands(group, before: str = ""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


@pytest.mark.parametrize(
    ("name", "command"),
    list(commands(get_command(app))),
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_every_command_that_tells_something_has_json(name: str, command) -> None:
    has = any("--json" in parameter.opts for parameter in command.params)
    assert has is (name not in WITHOUT_JSON)


def burnish(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "burnish.ops.cli", *args],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_no_service_is_3_and_a_wrong_flag_or_setting_2(tmp_path: Path) -> None:
    nobody = ["--url", "http://127.0.0.1:9", "--data-dir", str(tmp_path)]
    away = burnish("update", *nobody)
    assert (away.returncode, away.stdout, away.stderr.count("\n")) == (3, "", 1)
    told = burnish("status", "--json", *nobody)
    assert told.returncode == 3
    assert "no service answers" in json.loads(told.stdout)["problem"]
    assert burnish("status", "--sideways").returncode == 2
    assert burnish("status", BURNISH_PROT="8081").returncode == 2


def test_the_exit_codes_are_in_the_help() -> None:
    told = CliRunner().invoke(app, ["--help"]).output
    assert "Exit codes" in told
    assert "130" in told


def test_the_version_is_said() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.output.split()[0]) == (0, "burnish")


def test_a_near_name_is_suggested_and_a_far_one_is_not() -> None:
    assert "status" in CliRunner().invoke(app, ["statsu"]).output
    assert "Did you mean" not in CliRunner().invoke(app, ["xylophone"]).output
    with pytest.raises(SettingsError, match="did you mean BURNISH_PORT"):
        reject_unknown({"BURNISH_PROT": "1"})
    with pytest.raises(SettingsError) as far:
        reject_unknown({"BURNISH_XYLOPHONE": "1"})
    assert "did you mean" not in str(far.value)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_asks_the_program(shell: str) -> None:
    script = CliRunner().invoke(app, ["completion", shell]).output
    assert "_BURNISH_COMPLETE" in script
    assert "burnish" in script


def test_bash_completes_commands_and_options() -> None:
    def complete(words: str) -> list[str]:
        count = str(len(words.split(" ")) - 1)
        done = burnish(COMP_WORDS=words, COMP_CWORD=count, _BURNISH_COMPLETE="complete_bash")
        return done.stdout.split()

    assert "doctor" in complete("burnish do")
    assert "--watch" in complete("burnish status --wa")


def test_keys_as_json(tmp_path: Path) -> None:
    def run(*args: str):
        done = CliRunner().invoke(app, ["keys", *args, "--json", "--data-dir", str(tmp_path)])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    key = run("add", "acme")["key"]
    (listed,) = run("list")
    assert key.startswith(listed["prefix"])
    assert run("revoke", listed["prefix"]) == {
        "revoked": listed["prefix"],
        "valid_keys_left": False,
    }
