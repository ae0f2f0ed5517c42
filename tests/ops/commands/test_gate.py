"""`burnish gate`: the newest version's report or a named one's, what failed first."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from typing import Any

import pytest
from burnish.learner.gate.report import Check, GateReport
from burnish.ops.commands import gate as command
from burnish.ops.commands.client import ServiceError
from burnish.ops.settings import UpSettings
from rich.console import Console

KEPT = Check(name="kl", value=0.1, passed=True, says="KL to the base is 0.100")
OPEN = Check(name="skill/base", value=0.0, passed=False, says="skill may be lost", undecided=True)
LOST = Check(name="families/base", value=-0.4, passed=False, says="units moved by -0.400")


def report(*checks: Check) -> dict[str, Any]:
    return GateReport(
        passed=all(check.passed for check in checks),
        base_sha256="0",
        suite="0",
        tasks=24,
        asked={"units": 90, "words": 40},
        seconds=12.4,
        checks=list(checks),
        skill=0.6,
        base_skill=0.7,
        families={"words": (0.7, 0.7), "units": (0.9, 0.5)},
        notes=["not asked, since the base hardly ever does well: JSON"],
    ).model_dump(mode="json")


VERSIONS = {1: None, 2: report(KEPT), 3: report(KEPT, OPEN, LOST)}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[UpSettings]:
    """Of a service that has these versions."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            *_, last = self.path.split("/")
            if last == "default":
                told: Any = {"versions": [{"version": number} for number in VERSIONS]}
            elif int(last) in VERSIONS:
                told = {"ref": f"default@{last}", "gate_report": VERSIONS[int(last)]}
            else:
                told = {"error": {"message": f"default has no version {last}"}}
            self.send_response(404 if "error" in told else 200)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("BURNISH_URL", f"http://127.0.0.1:{server.server_port}")
    yield UpSettings()
    server.shutdown()
    server.server_close()


def shown(settings: UpSettings, version: str | None) -> tuple[int, list[str]]:
    out = StringIO()
    code = command.run(settings, version, "default", Console(file=out, width=120))
    return code, out.getvalue().splitlines()


def test_the_newest_version_is_told_what_failed_first(settings):
    code, lines = shown(settings, None)
    assert code == 1
    assert lines[0] == "default@3 did not pass the gate: 130 questions, 12 s"
    marks = [line.split()[0] for line in lines[1:4]]
    assert marks == ["lost", "open", "kept"]
    assert "units moved by -0.400" in lines[1]
    assert [line.split()[0] for line in lines[5:7]] == ["units", "words"]
    assert lines[-1] == "not asked, since the base hardly ever does well: JSON"


def test_a_version_that_passed(settings):
    code, lines = shown(settings, "default@2")
    assert code == 0
    assert lines[0].startswith("default@2 passed the gate")


def test_the_base_was_never_there(settings):
    assert shown(settings, "1") == (
        1,
        ["default@1 was never at the gate: it is the base, or somebody brought it"],
    )


def test_an_unknown_version_is_the_services_to_tell(settings):
    with pytest.raises(ServiceError, match="default has no version 9"):
        shown(settings, "9")
