"""Settings: what is refused, and how it is said."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from burnish.ops import settings as config
from burnish.ops.settings import SettingsError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith("BURNISH_")]:
        monkeypatch.delenv(name)
    # load() writes flags into the environment; undo that after each test.
    monkeypatch.setattr(os, "environ", os.environ.copy())


def burnish(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "burnish.ops.cli", *args],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_flag_is_the_variable_written_shorter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BURNISH_PORT", "9000")
    assert config.load().port == 9000
    assert config.load({"port": 9001, "host": None}).port == 9001
    assert os.environ["BURNISH_PORT"] == "9001"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BURNISH_REDIS_URL", "")
    assert config.load().redis_url is None


def test_a_misspelt_variable_is_refused_with_a_hint(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BURNISH_UPDATE_EVRY", "30")
    with pytest.raises(SettingsError, match=r"did you mean BURNISH_UPDATE_EVERY\?"):
        config.load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BURNISH_PORT", "http"),
        ("BURNISH_PORT", "70000"),
        ("BURNISH_UPDATE_EVERY", "-1"),
        ("BURNISH_CPU", "itanium"),
        ("BURNISH_WEIGHTS", "int3"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name}: .*{value}"):
        config.load()


def test_a_bad_value_for_another_room_is_refused_before_its_process_starts():
    with pytest.raises(SettingsError, match="BURNISH_RULE"):
        config.check_rooms({"BURNISH_RULE": "luck"})
    assert "BURNISH_RULE" not in os.environ


def test_a_bad_format_of_weights_is_told_the_choices(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BURNISH_WEIGHTS", "int3")
    with pytest.raises(SettingsError, match="'auto', 'float32', 'bfloat16', 'int8' or 'int4'"):
        config.load()


def test_a_server_of_its_own_chooses_its_format():
    server = {"BURNISH_ENGINE_URL": "http://127.0.0.1:1"}
    config.check_rooms({**server, "BURNISH_WEIGHTS": "auto"})
    with pytest.raises(SettingsError, match=r"BURNISH_WEIGHTS: .*BURNISH_ENGINE_URL"):
        config.check_rooms({**server, "BURNISH_WEIGHTS": "int8"})


def test_a_taken_port_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"BURNISH_PORT: cannot listen on 127.0.0.1:{port}"):
            config.refuse_taken_port("127.0.0.1", port)


def test_free_ports_start_where_asked():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert config.free_port(port) > port


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"BURNISH_COLOUR": "red"}, "BURNISH_COLOUR is not a setting"),
        ({"BURNISH_PORT": "eighty"}, "BURNISH_PORT: "),
        ({"BURNISH_MODEL": "/nowhere"}, "BURNISH_MODEL: /nowhere is not a model folder"),
        ({"BURNISH_HOST": "0.0.0.0"}, "no API key exists"),
    ],
)
def test_up_says_one_clear_line_and_exits_with_2(env: dict, said: str, tmp_path: Path):
    port = str(config.free_port())
    done = burnish("up", "--data-dir", str(tmp_path), **{"BURNISH_PORT": port, **env})
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_line_needs_no_torch():
    code = (
        "import sys, burnish.ops.cli; sys.exit('torch' in sys.modules or 'mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


ROOT = Path(__file__).parents[2]


def test_the_settings_page_is_what_make_settings_writes():
    assert (ROOT / "ops" / "docs" / "settings.md").read_text() == config.as_markdown()


def test_the_readme_names_only_settings_that_exist_with_their_defaults():
    names = config.known()
    rows = re.findall(r"^\| `(BURNISH_\w+)` \| ([^|]+) \|", (ROOT / "README.md").read_text(), re.M)
    assert len(rows) >= 9
    for name, default in rows:
        assert name in names
        if default.startswith("`"):
            assert default.strip("`") == names[name].default.removesuffix(".0")


def test_every_variable_in_the_compose_file_is_a_setting():
    compose = (ROOT / "ops" / "compose.yaml").read_text()
    used = set(re.findall(r"BURNISH_[A-Z_]+", compose))
    assert used
    assert used <= set(config.known())
