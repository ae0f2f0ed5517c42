"""The memory view on a real Redis: sessions from outside and within, records, search, export, hostile names."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import uvicorn
from burnish.serving.app import create_app
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings
from playwright.sync_api import Page, expect

from tests.serving.conftest import Running
from tests.serving.page.hostile import HOSTILE as CORPUS
from tests.serving.page.test_access import violations
from tests.serving.page.test_safety import UNSAFE

HOSTILE = "<img src=x onerror=window.hit=1>/../'\"`</a><script>window.hit=1</script>"


@pytest.fixture(scope="module")
def remembering(
    empty_registry: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A service with a Redis, where ana has sessions and records."""
    folder = tmp_path_factory.mktemp("memory-view")
    shutil.copy(empty_registry / "mlflow.db", folder)
    settings = ServingSettings(
        data_dir=folder / "data",
        mlflow_uri=f"sqlite:///{folder}/mlflow.db",
        redis_url=redis_url.rsplit("/", 1)[0] + "/11",
    )
    app = create_app(settings, StubEngine("Hello there."))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.02)
    host, port = listening.getsockname()
    running = Running(f"http://{host}:{port}", app.state.service.engine, app.state.service)
    seed(running)
    yield running
    server.should_exit = server.force_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def server(remembering: Running) -> Running:
    """What `open_page` opens."""
    return remembering


def seed(running: Running) -> None:
    append(running, "work", [f"step {n}: the crate {n} stands on shelf {n % 7}" for n in range(60)])
    append(running, HOSTILE, [HOSTILE])
    compacted = {"policy": "bm25", "budget": 200}
    assert memory(running, "POST", "sessions/work/compact", json=compacted).status_code == 200
    home = {"user": "ana", "subject": "ana", "predicate": "lives in"}
    for value, since in (("Lisbon", "2024-05-01"), ("Porto", "2025-05-01")):
        memory(running, "POST", "records", json={**home, "value": value, "valid_from": since})
    memory(running, "POST", "records", json={"user": "ana", "text": HOSTILE})


def append(running: Running, session: str, texts: list[str]) -> None:
    for at in range(0, len(texts), 250):
        events = [{"role": "user", "content": text} for text in texts[at : at + 250]]
        made = memory(
            running, "POST", f"sessions/{quote(session, safe='')}/events",
            json={"events": events, "user": "ana"},
        )  # fmt: skip
        assert made.status_code == 201, made.text


def memory(running: Running, method: str, path: str, **options):
    return running.http(method, f"/v1/memory/{path}", **options)


def pins(running: Running) -> list[str]:
    return [pin["cursor"] for pin in memory(running, "GET", "sessions/work/pins").json()["pins"]]


@pytest.fixture
def person(open_page: Callable[..., Page]) -> Page:
    page = open_page()
    page.goto(f"{page.url.split('#')[0]}#/memory/user/ana")
    page.get_by_role("link", name="work", exact=True).wait_for()
    return page


@pytest.fixture
def session(person: Page) -> Page:
    person.get_by_role("link", name="work", exact=True).click()
    person.get_by_role("heading", name="work", exact=True).wait_for()
    person.get_by_role("button", name="step 0:").wait_for()
    return person


def test_sessions_and_records_of_a_user_with_their_provenance(person: Page) -> None:
    row = person.get_by_role("row", name="work")
    expect(row.get_by_role("cell").first).to_have_text("60")
    records = person.get_by_role("table", name="Facts that outlive their session")
    expect(records.get_by_role("row", name="Lisbon")).to_contain_text("superseded")
    expect(records.get_by_role("row", name="Porto")).to_contain_text("now")
    expect(person.get_by_role("img", name="When each of 2 facts held")).to_be_visible()


def test_search_finds_steps_and_leads_to_their_session(person: Page) -> None:
    person.get_by_label("In all that was said").fill("crate 17")
    person.get_by_role("button", name="Search").click()
    found = person.get_by_role("link", name="step 18 of work")
    found.click()
    expect(person.get_by_role("heading", name="work", exact=True)).to_be_visible()


def test_the_log_stands_beside_the_view_with_what_left_and_why(session: Page) -> None:
    view = session.locator(
        "section", has=session.get_by_role("heading", name="What the model sees")
    )
    session.get_by_label("Tokens that fit").fill("200")
    session.get_by_role("button", name="Show the view").click()
    expect(view).to_contain_text("Left out:")
    expect(view).to_contain_text("exceed the budget of 200 tokens")
    expect(session.locator(".step .tag.warn").first).to_have_text("left out")
    session.get_by_role("group", name="Log").evaluate(
        "(node) => { node.scrollTop = node.scrollHeight; }"
    )
    expect(session.locator(".step .tag.good").last).to_have_text("in view")
    plans = session.get_by_role("table", name="What each chose to show")
    expect(plans.get_by_role("row", name="bm25")).to_contain_text("yes")


def test_an_earlier_version_shows_the_view_of_then(session: Page) -> None:
    slider = session.get_by_label("As it was")
    slider.focus()
    session.keyboard.press("Home")
    slider.dispatch_event("change")
    expect(session.get_by_role("heading", name="What the model saw at version 1")).to_be_visible()


def test_a_step_is_pinned_and_unpinned_by_the_server(session: Page, server: Running) -> None:
    session.get_by_role("button", name="step 2:").click()
    session.get_by_role("dialog").get_by_role("button", name="Pin", exact=True).click()
    expect(session.get_by_role("status")).to_have_text("Step 3 is pinned.")
    assert "3" in pins(server)
    session.locator(".toast").get_by_role("button", name="Undo").click()
    expect(session.get_by_role("status")).to_have_text("Taken back.")
    assert "3" not in pins(server)


def test_a_deleted_step_is_gone_and_comes_back_by_undo(session: Page, server: Running) -> None:
    session.get_by_role("button", name="step 4:").click()
    session.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(session.get_by_role("status")).to_contain_text("1 step deleted")
    expect(session.get_by_text("5: not in the log")).to_be_visible()
    left = memory(server, "GET", "sessions/work/events?after=4&limit=2").json()["events"]
    assert left[0]["cursor"] == "6"
    session.locator(".toast").get_by_role("button", name="Undo").click()
    expect(session.get_by_role("button", name="step 4:")).to_be_visible()
    back = memory(server, "GET", "sessions/work/events?after=4&limit=2").json()["events"]
    assert back[0]["cursor"] == "5"


def test_ten_thousand_steps_open_with_a_few_requests_and_rows(
    open_page: Callable[..., Page], server: Running
) -> None:
    append(server, "days", [f"step {n}" for n in range(10_000)])
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{page.url.split('#')[0]}#/memory/session/days")
    page.get_by_role("button", name="step 0", exact=False).first.wait_for()
    expect(page.locator(".facts")).to_contain_text("10,000")
    assert len([url for url in asked if "/v1/" in url]) <= 10
    assert page.locator(".rows li").count() < 60
    page.get_by_role("group", name="Log").evaluate(
        "(node) => { node.scrollTop = node.scrollHeight; }"
    )
    page.get_by_role("button", name="step 9999").wait_for()
    assert page.locator(".rows li").count() < 60


def test_hostile_names_and_records_stay_text(person: Page) -> None:
    person.get_by_role("link", name="<img src=x").click()
    expect(person.get_by_role("heading", name="<img src=x")).to_be_visible()
    person.get_by_role("button", name="<img src=x").click()
    expect(person.get_by_role("dialog")).to_contain_text("<script>")
    assert person.evaluate("window.hit") is None
    assert person.locator("main img, main script, dialog img").count() == 0


def test_the_whole_corpus_as_names_of_sessions_and_as_records_stays_text(
    open_page: Callable[..., Page], server: Running
) -> None:
    names = []
    for text in CORPUS:
        step = {"events": [{"role": "user", "content": text}], "user": "mal"}
        path = f"sessions/{quote(text, safe='')}/events"
        if memory(server, "POST", path, json=step).status_code == 201:
            names.append(text)  # no control characters, and not longer than a name may be
        record = {"user": "mal", "text": text, "session_id": "work"}
        assert memory(server, "POST", "records", json=record).status_code == 201
    assert len(names) >= 60
    page = open_page(path="/#/memory/user/mal")
    links = page.get_by_role("table").first.locator("tbody th")
    expect(links).to_have_count(min(len(names), 50))
    while (more := page.get_by_role("button", name="More")).count():
        shown = links.count()
        more.click()
        expect(links.nth(shown)).to_be_visible()
    assert sorted(links.all_inner_texts()) == sorted(names)
    expect(page.get_by_role("table").last.locator("tbody tr")).to_have_count(len(CORPUS))
    page.get_by_label("In all that was said").fill("window hit script img")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="step 1 of").first.wait_for()
    assert page.evaluate(UNSAFE, "#view *:not(a[href^='#'])") == []
    for name in names[::8]:
        page.evaluate(
            "(name) => { location.hash = '#/memory/session/' + encodeURIComponent(name); }", name
        )
        expect(page.locator("h1.name")).to_have_text(name, use_inner_text=False)
        page.locator(".rows button.step").first.wait_for()
        # The rows' places are set by the page itself.
        assert page.evaluate(UNSAFE, "#view *:not(a[href^='#'], .rows, .rows > li)") == []
    assert page.evaluate("window.hit") is None


def test_of_somebody_unknown_it_says_how_memory_begins(person: Page) -> None:
    person.get_by_label("Whose memory").fill("nobody")
    person.get_by_role("button", name="Show", exact=True).click()
    expect(person.get_by_text("No sessions of this user")).to_be_visible()
    expect(person.get_by_text("No records of this user")).to_be_visible()


def test_an_export_is_a_file_of_all_that_is_kept(person: Page) -> None:
    with person.expect_download() as saved:
        person.get_by_role("button", name="Export").click()
    lines = Path(saved.value.path()).read_text().splitlines()
    assert any("Porto" in line for line in lines)
    assert any("crate 17" in line for line in lines)


def test_a_lost_server_is_said_and_the_view_recovers(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.route("**/v1/memory/**", lambda route: route.abort())
    page.goto(f"{page.url.split('#')[0]}#/memory/user/ana")
    expect(page.get_by_text("The server cannot be reached").first).to_be_visible()
    page.unroute("**/v1/memory/**")
    page.get_by_role("link", name="work", exact=True).wait_for()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing(
    open_page: Callable[..., Page], axe: str, width: int, dark: bool
) -> None:
    page = open_page(width=width, dark=dark)
    for path, ready in (("user/ana", "Facts that outlive"), ("session/work", "Left out:")):
        page.goto(f"{page.url.split('#')[0]}#/memory/{path}")
        if "session" in path:
            page.get_by_label("Tokens that fit").fill("200")
            page.get_by_role("button", name="Show the view").click()
        page.get_by_text(ready).first.wait_for()
        page.evaluate(axe)
        assert violations(page) == []
