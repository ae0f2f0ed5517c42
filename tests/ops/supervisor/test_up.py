"""`burnish up` on a tiny model: it starts, recovers, stops, and continues after a restart.

All tests share one service; the last ones kill, restart and stop it.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest
from burnish.ops import settings as config
from burnish.ops.supervisor import run_state

from tests.service import MESSAGES, Service


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def burnish(*args: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "burnish.ops.cli", *args],
        capture_output=True,
        text=True,
        input=text,
        timeout=300,
    )


@pytest.fixture(scope="module")
def service(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory):
    with Service(tmp_path_factory.mktemp("up") / "data", tiny_model) as running:
        yield running


def ask(service: Service) -> str:
    """Chats once; returns the interaction id."""
    answer = service.client.chat.completions.create(
        model="default",
        messages=MESSAGES,  # type: ignore[arg-type]
        max_tokens=8,
    )
    assert answer.system_fingerprint == "default@1"
    return answer.id


def test_it_says_where_to_look(service: Service):
    service.wait_until(lambda: "Ctrl-C stops" in service.output.read_text(), 30, "it says nothing")
    said = service.output.read_text()
    assert f"{service.url}/v1" in said
    assert "curl" in said


def test_everything_runs(service: Service):
    service.wait_until(lambda: "beat" in service.children(), 300, "beat was not started")
    assert {"redis", "serving", "intake", "worker", "beat"} <= set(service.children())


def test_the_readme_example_works_as_written(service: Service, capsys: pytest.CaptureFixture[str]):
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    found = re.search(r"```python\n(.*?)```", readme, re.S)
    assert found
    code = found.group(1).replace("http://127.0.0.1:8080", service.url)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    exec(code, {})
    assert "default@1" in capsys.readouterr().out


def test_the_example_it_prints_works(service: Service):
    command = next(line for line in service.output.read_text().splitlines() if "curl" in line)
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=300)
    assert '"chat.completion"' in done.stdout.replace(" ", ""), done


def test_chat_in_the_terminal_and_a_thumb(service: Service):
    done = burnish(
        "chat", "--data-dir", str(service.data_dir), text="/up\nhello\n/down too short\n/quit\n"
    )
    assert done.returncode == 0, done.stderr
    assert "there is no answer to judge yet" in done.stdout
    assert "default@1" in done.stdout
    assert "thumbs down noted" in done.stdout


def test_status_shows_processes_and_versions(service: Service):
    done = burnish("status", "--data-dir", str(service.data_dir))
    assert done.returncode == 0, done.stderr
    for word in ("serving", "worker", "default"):
        assert word in done.stdout


def test_dead_letters_are_listed_from_the_embedded_redis(service: Service):
    done = burnish("deadletters", "list", "--data-dir", str(service.data_dir))
    assert done.returncode == 0, done.stderr
    assert "burnish.feedback" in done.stdout


def test_an_unknown_version_cannot_be_promoted(service: Service):
    done = burnish("promote", "99", "--data-dir", str(service.data_dir))
    assert done.returncode == 1
    assert "99" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_second_service_on_the_same_folder_is_refused(service: Service, tiny_model: Path):
    done = burnish("up", "--data-dir", str(service.data_dir), "--model", str(tiny_model))
    assert done.returncode == 2
    assert service.url in done.stderr


def test_two_services_run_side_by_side(service: Service, tiny_model: Path, tmp_path: Path):
    with Service(tmp_path / "other", tiny_model) as other:
        assert ask(other) != ask(service)
        ours, theirs = set(service.children().values()), set(other.children().values())
        assert not ours & theirs


@pytest.mark.parametrize("name", ["serving", "redis"])
def test_a_killed_child_comes_back(service: Service, name: str):
    before = service.children()[name]
    os.kill(before, signal.SIGKILL)
    service.wait_until(
        lambda: service.children().get(name, before) != before, 300, f"no new {name}"
    )
    service.wait_until(service.ready, 300, "not ready again")
    ask(service)
    assert f"{name} ended (SIGKILL)" in service.output.read_text()


def test_after_kill_9_no_child_survives_and_the_next_start_goes_on(service: Service):
    answered = ask(service)
    judgement = service.judge(answered, "down")
    service.wait_until(lambda: "beat" in service.children(), 300, "beat was not started")
    children = service.children()
    assert service.process is not None
    service.process.kill()
    service.process.wait()
    service.wait_until(lambda: all(gone(p) for p in children.values()), 60, "orphans are left")

    service.start()
    found = httpx.get(f"{service.url}/v1/feedback", params={"interaction_id": answered}, timeout=60)
    assert judgement in found.text
    ask(service)


def test_ctrl_c_leaves_no_child_and_frees_port_and_folder(service: Service):
    service.wait_until(lambda: "beat" in service.children(), 300, "beat was not started")
    children = service.children()
    assert service.stop() == 0
    assert all(gone(pid) for pid in children.values())
    config.refuse_taken_port("127.0.0.1", service.port)  # raises if anyone still listens
    os.close(run_state.lock(service.data_dir, timeout_s=0))
    assert run_state.read(service.data_dir) is None
