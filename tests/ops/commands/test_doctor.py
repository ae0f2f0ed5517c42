"""`burnish doctor` tells what is needed and missing apart from what may be left out."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from burnish.ops.cli import app
from burnish.ops.commands import doctor
from burnish.ops.settings import UpSettings
from typer.testing import CliRunner


def test_too_old_a_python_is_missing_and_says_what_to_install() -> None:
    assert doctor.python((3, 11, 2)).verdict == "ok"
    old = doctor.python((3, 9, 2))
    assert (old.verdict, "3.11" in old.fix) == ("missing", True)


def test_too_little_memory_is_missing() -> None:
    assert doctor.memory(8 * 10**9).verdict == "ok"
    assert doctor.memory(10**9).verdict == "missing"


def test_a_taken_port_is_missing_and_a_free_one_is_not(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = UpSettings(port=taken.getsockname()[1], data_dir=tmp_path)
        found = doctor.port(settings)
        assert (found.verdict, "--port" in found.fix) == ("missing", True)
    assert doctor.port(settings).verdict == "ok"


def test_a_folder_without_a_model_is_missing(tmp_path: Path) -> None:
    assert doctor.model(UpSettings()).verdict == "ok"
    assert doctor.model(UpSettings(model=tmp_path)).verdict == "missing"


def test_a_redis_of_the_settings_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert doctor.redis(UpSettings(redis_url="redis://elsewhere:6379")).verdict == "ok"
    assert doctor.redis(UpSettings()).verdict == "missing"


def test_what_only_a_part_needs_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    tools = [*doctor.tools(), *doctor.kafka(UpSettings()), doctor.compiler()]
    absent = [check for check in tools if check.verdict != "ok"]
    assert {"Chromium", "Java", "C++ compiler"} <= {check.name for check in absent}
    assert {check.verdict for check in absent} == {"optional"}
    assert all(check.fix for check in absent)


def test_as_json_with_an_exit_code(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(
            app, ["doctor", "--json", "--port", port, "--data-dir", str(tmp_path)]
        )
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["can_start"] is False
    assert any(c["name"] == "port" and c["verdict"] == "missing" for c in told["checks"])
