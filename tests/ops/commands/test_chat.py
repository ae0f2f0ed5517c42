"""`burnish chat` against a service: questions and judgements carry who is at the terminal."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from burnish.ops.cli import app
from burnish.ops.commands.client import ServiceDown
from typer.testing import CliRunner

CHUNK = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 0,
    "model": "default",
    "system_fingerprint": "default@1",
    "choices": [{"index": 0, "delta": {"content": "42"}, "finish_reason": None}],
}
FATE = {
    "id": "fb-1",
    "state": "stands",
    "problem": None,
    "fate": {
        "policy": "default",
        "steps": [
            {"step": "saved", "at": 1.0},
            {"step": "joined", "at": 2.0},
            {"step": "weighed", "at": 3.0, "weight": 0.5, "why": "one person counts only so much"},
            {"step": "used", "at": 4.0, "update": "u7", "version": 8},
            {"step": "gate", "at": 4.0, "update": "u7", "version": 8, "passed": True},
        ],
        "skipped": None,
        "waits": "default@8 passed the gate, and waits to be promoted",
    },
}
LEARNER = {
    "why": None,
    "ticks": [
        {"kind": "intake", "did": "took in 1"},
        {"kind": "update", "did": "trained nothing", "why_not": "2 of 16 judged answers are there"},
    ],
}
Sent = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def service() -> Iterator[tuple[str, Sent]]:
    """A service that answers 42, and the requests that it got."""
    sent: Sent = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = FATE if self.path.startswith("/v1/feedback/") else LEARNER
            self.answer(200, "application/json", json.dumps(told))

        def do_DELETE(self) -> None:
            sent.append((f"DELETE {self.path}", {}))
            self.answer(200, "application/json", '{"deleted": true}')

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent.append((self.path, json.loads(body)))
            if self.path == "/v1/feedback":
                status, kind, answer = 202, "application/json", '{"id": "fb-1"}'
            else:
                status, kind = 200, "text/event-stream"
                answer = f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n"
            self.answer(status, kind, answer)

        def answer(self, status: int, kind: str, answer: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    thread.join()
    server.server_close()


def talk(url: str, *options: str, lines: str = "What is 12 + 30?\n/down too short\n") -> str:
    result = CliRunner().invoke(app, ["chat", "--url", url, *options], input=lines)
    assert result.exit_code == 0, result.output
    return result.output


def test_questions_and_judgements_carry_the_name_given(service) -> None:
    url, sent = service
    assert "42" in talk(url, "--user", "ada")
    (_, asked), (path, judged) = sent
    assert asked["user"] == "ada"
    assert path == "/v1/feedback"
    assert judged == {
        "interaction_id": "chatcmpl-1",
        "user": "ada",
        "name": "thumbs",
        "value": "down",
        "rationale": "too short",
    }


def test_without_a_name_the_login_is_it(service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    url, sent = service
    talk(url)
    assert {body["user"] for _, body in sent} == {"grace"}


def test_a_vote_is_taken_back_and_its_fate_told(service) -> None:
    url, sent = service
    said = talk(url, lines="What is 12 + 30?\n/down\n/why\n/undo\n/undo\n/why\n")
    assert "thumbs down: saved, joined, weighed 0.50 since one person counts only so much" in said
    assert "used in update u7, passed at the gate as default@8; it waits for: default@8" in said
    assert "the learner's last update: trained nothing: 2 of 16 judged answers" in said
    assert [path for path, _ in sent][-1] == "DELETE /v1/feedback/fb-1"
    assert "there is nothing to take back" in said
    assert "you have not judged yet" in said


def test_the_history_shows_questions_answers_and_votes(service) -> None:
    said = talk(service[0], lines="What is 12 + 30?\n/up\n/history\n")
    assert "1. > What is 12 + 30?" in said
    assert "42  (default@1)" in said
    assert "thumbs up" in said


def test_a_command_that_is_near_is_suggested(service) -> None:
    assert "did you mean /down?" in talk(service[0], lines="/donw\n")
    assert "did you mean" not in talk(service[0], lines="/xylophone\n")


def test_as_json_every_turn_and_command_is_an_object(service) -> None:
    said = talk(service[0], "--json", lines="What is 12 + 30?\n/up\n/quit\n")
    turn, command = (json.loads(line) for line in said.splitlines())
    assert (turn["answer"], turn["version"], turn["id"]) == ("42", "default@1", "chatcmpl-1")
    assert command == {"command": "/up", "said": "thumbs up noted"}


def test_a_script_whose_service_is_away_gets_an_error() -> None:
    done = CliRunner().invoke(app, ["chat", "--url", "http://127.0.0.1:9"], input="hello\n")
    assert isinstance(done.exception, ServiceDown)
