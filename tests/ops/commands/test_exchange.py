"""`burnish import` and `export`: through a real stream into the database, and out as files."""

import json

import pytest
from burnish.feedback.contract import TOPICS
from burnish.feedback.events import decode
from burnish.feedback.settings import StreamSettings
from burnish.feedback.stream.opening import open_stream
from burnish.feedback.stream.redis_stream import RedisStream
from burnish.ops.cli import app
from burnish.ops.commands import exchange
from rich.console import Console
from typer.testing import CliRunner

ROWS = [
    {"prompt": "2 + 2?", "completion": "4", "thumbs": "up", "user": "ada"},
    {"prompt": "2 + 2?", "completion": "5", "thumbs": "sideways", "user": "bob"},
    {"prompt": "2 + 2?"},
    {"prompt": "3 + 2?", "completion": "6", "correction": "5"},
]


@pytest.fixture
def run(monkeypatch, redis_url, redis_client, tiny_model, tmp_path):
    monkeypatch.setattr(exchange, "console", Console(width=200))
    monkeypatch.setenv("BURNISH_REDIS_URL", redis_url)
    monkeypatch.setenv("BURNISH_MODEL", str(tiny_model))
    monkeypatch.setenv("BURNISH_DATA_DIR", str(tmp_path))
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


def published(redis_url: str) -> list:
    stream = open_stream(StreamSettings(redis_url=redis_url))
    try:
        return [
            decode(record)
            for topic in TOPICS
            for partition in stream.partitions(topic)
            for record in stream.read(topic, partition, None, 100)
        ]
    finally:
        stream.close()


def test_good_rows_are_handed_to_the_intake_and_bad_ones_told(run, redis_url, tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_text("\n".join([*map(json.dumps, ROWS), "{"]))
    done = run("import", file)
    assert done.exit_code == 1, done.output
    assert "log.jsonl row 3: completion: a text or a list of messages is needed" in done.output
    assert "log.jsonl row 5: no JSON" in done.output
    assert 'thumbs must be "up" or "down"' in done.output
    assert "handed to the intake 2 answers with 2 judgements; 3 rows passed over" in done.output
    events = published(redis_url)
    assert sorted(getattr(event, "name", "answer") for event in events) == [
        "answer",
        "answer",
        "correction",
        "thumbs",
    ]


def test_a_dry_run_publishes_nothing(run, redis_url, tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_text(json.dumps(ROWS[0]))
    done = run("import", "--dry-run", file)
    assert (done.exit_code, "would take in 1 answers with 1 judgements" in done.output) == (0, True)
    stream = RedisStream(redis_url)
    stream.ensure_topics()
    stream.close()
    assert published(redis_url) == []


def test_an_export_is_one_object_a_line(run, tmp_path):
    from burnish.kernels.folder import open_folder
    from burnish.learner.database import Database
    from burnish.learner.exchange import plain
    from burnish.learner.exchange.events import events_of
    from burnish.learner.intake.consume import upsert
    from burnish.ops import settings

    database = Database(f"sqlite:///{tmp_path}/experience.db")
    database.migrate()
    folder = open_folder(settings.load().model_path)
    [turn] = plain.turns(ROWS[0])
    with database.write() as session:
        upsert(session, list(events_of(turn, folder, policy="default", tenant="local")))
    database.close()
    out = tmp_path / "out.jsonl"
    done = run("export", out, "--as", "kto")
    assert done.exit_code == 0, done.output
    [row] = map(json.loads, out.read_text().splitlines())
    assert (row["completion"][0]["content"], row["label"]) == ("4", True)


def test_what_cannot_be_done_is_one_line(run, tmp_path):
    assert "is none of log, kto, dpo, sft" in str(run("export", "-", "--as", "ppo").exception)
    assert "there is no experience in" in str(run("export", "-").exception)
    assert "cannot be read" in str(run("import", tmp_path / "none.jsonl").exception)
