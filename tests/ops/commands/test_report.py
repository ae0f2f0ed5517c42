"""`burnish report`: from the database where there is one, else from a service; words, JSON and PNGs."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path

import pytest
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.report.make import make
from burnish.ops.cli import app
from burnish.ops.commands import report as command
from burnish.ops.commands.client import ServiceError
from burnish.ops.settings import UpSettings
from rich.console import Console
from typer.testing import CliRunner

from tests.learner.conftest import interaction, thumbs
from tests.learner.report.rows import update, voted

REPORT = make(voted({1: (209, 380), 7: (262, 410)}, updates=[update(7)]), bounds=None)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("BURNISH_DATABASE_URL", "BURNISH_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BURNISH_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def experience(data_dir: Path) -> Path:
    """A data folder with votes in it."""
    database = Database(f"sqlite:///{data_dir}/experience.db")
    database.migrate()
    with database.write() as session:
        for number in range(1, 41):
            upsert(session, [interaction(number), thumbs(number, user=f"user-{number % 4}")])
    database.close()
    return data_dir


@pytest.fixture
def service() -> Iterator[str]:
    """Something that has a report on the policy `default`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = {"available": False, "why": "no report on it yet", "report": None}
            if self.path == "/v1/learner/report?policy=default":
                told = {"available": True, "why": None, "report": REPORT.model_dump(mode="json")}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def told(settings: UpSettings, policy: str = "default", plots: Path | None = None) -> str:
    console = Console(file=StringIO(), width=120)
    command.run(settings, policy, console, as_json=False, plots=plots)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_database_is_read_where_it_is(experience: Path):
    text = told(UpSettings(data_dir=experience))
    assert "Is it learning? No: nothing can be learned from these votes." in text
    assert "40 votes of 4 people on the latest 40 judged answers" in text
    assert "1. All votes say up, and learning needs both." in text


def test_a_service_is_asked_where_one_is_named(experience: Path, service: str):
    text = told(UpSettings(data_dir=experience, url=service))
    assert "Is it learning? Yes: people like the latest versions more than the first." in text
    assert "Version 7 is liked more than version 1: 64 % of 410 against 55 % of 380" in text
    assert "7        410    64 %   59 to 68 %" in text


def test_a_service_is_asked_where_no_database_answers(
    data_dir: Path, service: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BURNISH_DATABASE_URL", "postgresql://burnish@127.0.0.1:1/burnish")
    monkeypatch.setattr(command, "ServiceClient", lambda settings: Client(service))
    assert "Version 7" in told(UpSettings(data_dir=data_dir))


def Client(url: str):
    from burnish.ops.commands.client import ServiceClient

    return ServiceClient(UpSettings(url=url))


def test_where_there_is_no_report_the_reason_is_told(data_dir: Path, service: str):
    with pytest.raises(ServiceError, match="no report on it yet"):
        told(UpSettings(data_dir=data_dir, url=service), policy="shop")


def test_many_versions_are_left_out_of_the_table():
    report = make(voted({v: (1, 2) for v in range(1, 31)}), bounds=None)
    table = command.versions(report)
    assert table.row_count == command.SHOWN
    assert "18 versions between are left out" in str(table.caption)


def test_json_and_pictures_by_the_command_line(experience: Path):
    done = CliRunner().invoke(
        app, ["report", "--json", "--plots", str(experience / "plots")], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert json.loads(done.stdout)["verdict"] == "nothing to learn"
    assert {path.name for path in (experience / "plots").iterdir()} == {"liked.png", "versions.png"}
