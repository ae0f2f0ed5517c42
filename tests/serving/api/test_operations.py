"""/v1/operations: what is wrong comes with what to do, figures come from what has happened, logs are masked."""

from __future__ import annotations

from pathlib import Path

import pytest
from burnish.serving.api import readiness
from burnish.serving.api.auth import KeyStore
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running


def operations(running: Running) -> dict:
    answer = running.http("GET", "/v1/operations")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_without_redis_it_is_degraded_and_says_what_to_do(running: Running) -> None:
    told = operations(running)
    assert told["status"] == "degraded"
    (problem,) = (one for one in told["problems"] if one["part"] == "Redis")
    assert problem["says"].startswith("redis:")
    assert "Start the Redis" in problem["do"]
    assert {"part": "Redis", "state": "degraded"} in told["parts"]
    assert {"part": "engine", "state": "ok"} in told["parts"]
    assert told["learner"] == {"available": False, "intake_at": None, "ticks": []}


def test_figures_follow_what_was_answered(running: Running) -> None:
    before = operations(running)
    running.say("Hi")
    after = operations(running)
    count = [told["latency"]["whole_answer"]["count"] for told in (before, after)]
    assert count == [0, 1]
    buckets = after["latency"]["whole_answer"]["buckets"]
    assert sum(bucket["count"] for bucket in buckets) == 1
    assert buckets[-1]["upto"] is None
    assert after["requests"]["by_status"]["200"] >= 2
    (policy,) = after["policies"]
    assert (policy["policy"], policy["champion"]) == ("default", 1)


def write_log(settings: ServingSettings, name: str, text: str) -> None:
    folder: Path = settings.data_dir / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.log").write_text(text)


def test_the_last_lines_of_a_log_come_without_passwords(
    running: Running, settings: ServingSettings
) -> None:
    assert running.http("GET", "/v1/operations/logs").json()["logs"] == []
    lines = [f"line {n}" for n in range(300)] + ["redis://:secret@127.0.0.1 is away"]
    write_log(settings, "serving", "\n".join(lines) + "\n")
    write_log(settings, "worker", "hello\n")
    assert running.http("GET", "/v1/operations/logs").json()["logs"] == ["serving", "worker"]
    told = running.http("GET", "/v1/operations/logs", params={"name": "serving", "lines": 3}).json()
    assert told["lines"] == ["line 298", "line 299", "redis://:***@127.0.0.1 is away"]


@pytest.mark.parametrize("name", ["../keys", "/etc/passwd", "serving.log", "nothing"])
def test_no_other_file_is_read(running: Running, settings: ServingSettings, name: str) -> None:
    write_log(settings, "serving", "hello\n")
    refused = running.http("GET", "/v1/operations/logs", params={"name": name})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "log_not_found")


def test_a_long_log_is_read_from_its_end(running: Running, settings: ServingSettings) -> None:
    write_log(settings, "serving", "".join(f"{n} {'x' * 1000}\n" for n in range(2000)))
    told = running.http("GET", "/v1/operations/logs", params={"name": "serving", "lines": 1000})
    lines = told.json()["lines"]
    assert lines[-1].startswith("1999 ")
    assert len(lines) < 300
    assert all(line.split()[0].isdigit() for line in lines)


def test_it_takes_the_scope_admin(running: Running, settings: ServingSettings) -> None:
    key = KeyStore(settings.data_dir / "keys.sqlite").create("acme", ["chat", "feedback", "memory"])
    for path in ("/v1/operations", "/v1/operations/logs"):
        assert running.with_key(key).http("GET", path).status_code == 403


@pytest.mark.parametrize(
    ("problem", "part"),
    [
        ("redis: Connection refused (BURNISH_REDIS_URL; ...)", "Redis"),
        ("stream: no broker", "stream"), ("disk: 12 MB are free", "disk"),
        ("the spool is full: feedback is refused", "spool"),
        ("the spool cannot be written: x", "spool"), ("spool: x", "spool"),
        ("policy default: no version is loaded (starting)", "registry"),
        ("policies: the aliases are still to be looked at", "registry"),
        ("engine: no vLLM server answers", "engine"), ("engine has failed: x", "engine"),
        ("learner: the intake last looked", "worker"), ("forwarder has failed: x", "service"),
    ],
)  # fmt: skip
def test_every_problem_has_its_part_and_what_to_do(problem: str, part: str) -> None:
    assert readiness.part_of(problem) == part
    assert readiness.advice(problem)
