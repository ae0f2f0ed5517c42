"""`burnish deadletters`: what could not be read is counted with its reason, and put back."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from burnish.feedback.contract import FEEDBACK, INTERACTIONS
from burnish.feedback.errors import UnknownEvent
from burnish.feedback.stream.deadletters import dead_letter, letters
from burnish.feedback.stream.record import StreamRecord
from burnish.feedback.stream.redis_stream import RedisStream
from burnish.ops.cli import app
from burnish.ops.commands.client import ServiceDown, ServiceError
from burnish.ops.commands.deadletters import stream_settings
from burnish.ops.settings import UpSettings, free_port
from burnish.ops.supervisor.run_state import RunState
from typer.testing import CliRunner

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in [name for name in os.environ if name.startswith("BURNISH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())

    def invoke(*args: str, **env: str) -> str:
        os.environ.update(env)
        result = CliRunner().invoke(app, ["deadletters", *args, "--data-dir", str(tmp_path)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    return invoke


@pytest.mark.usefixtures("redis_client")
def test_dead_letters_are_counted_with_their_reasons_and_put_back(run: Run, redis_url: str) -> None:
    stream = RedisStream(redis_url)
    stream.ensure_topics()
    for number, reason in enumerate(("no [JSON]", "no [JSON]", "no type")):
        record = StreamRecord(FEEDBACK, "key", b"?", {"ce_id": f"e{number}"})
        dead_letter(stream, record, UnknownEvent(reason), attempts=1)
    listed = run("list", BURNISH_REDIS_URL=redis_url)
    assert f"{FEEDBACK} 3 2 x UnknownEvent: no [JSON] 1 x UnknownEvent: no type" in " ".join(
        listed.split()
    )
    assert f"{INTERACTIONS} 0" in " ".join(listed.split())
    assert f"{FEEDBACK}: 3 put back" in run("replay", BURNISH_REDIS_URL=redis_url)
    assert not list(letters(stream, FEEDBACK))
    found = [
        record.event_id
        for partition in stream.partitions(FEEDBACK)
        for record in stream.read(FEEDBACK, partition, None)
    ]
    assert sorted(str(event_id) for event_id in found) == ["e0", "e1", "e2"]
    stream.close()


def test_without_settings_it_is_the_running_service_whose_stream_is_read(tmp_path: Path) -> None:
    settings = UpSettings(data_dir=tmp_path)
    RunState(pid=os.getpid(), url="http://127.0.0.1:1", redis_port=7).write(tmp_path)
    url = stream_settings(settings).redis_url
    password = (tmp_path / "redis" / "password").read_text()
    assert url == f"redis://:{password}@127.0.0.1:7/0"
    state = RunState(pid=os.getpid(), url="http://127.0.0.1:1", redis_port=7, kafka="127.0.0.1:8")
    state.write(tmp_path)
    found = stream_settings(settings)
    assert (found.kafka_bootstrap, found.redis_url) == ("127.0.0.1:8", url)


def test_without_a_stream_it_says_how_to_name_one(run: Run) -> None:
    with pytest.raises(ServiceDown, match="BURNISH_REDIS_URL"):
        run("list")


def test_a_server_that_does_not_answer_is_one_line(run: Run) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    with pytest.raises(ServiceError):
        run("replay", BURNISH_REDIS_URL=url)
