"""`burnish chat` against a service: questions and judgements carry who is at the terminal."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from burnish.ops.cli import app
from typer.testing import CliRunner

CHUNK = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 0,
    "model": "default",
    "system_fingerprint": "default@1",
    "choices": [{"index": 0, "delta": {"content": "42"}, "finish_reason": None}],
}
Sent = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def service() -> Iterator[tuple[str, Sent]]:
    """A service that answers 42, and the requests that it got."""
    sent: Sent = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent.append((self.path, json.loads(body)))
            if self.path == "/v1/feedback":
                status, kind, answer = 202, "application/json", '{"id": "fb-1"}'
            else:
                status, kind = 200, "text/event-stream"
                answer = f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n"
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


def talk(url: str, *options: str) -> str:
    lines = "What is 12 + 30?\n/down too short\n"
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
