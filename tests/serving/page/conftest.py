"""The page in headless Chromium against the real application with a stub engine.

A test sets `engine.reply` to what the model shall answer; everything else is real: HTTP,
spool, registry. Every page fails its test on a request to another host, a console error or an
uncaught exception.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from burnish.ops.bench.lib.page.chromium import CHROMIUM, FLAGS
from burnish.serving.app import create_app
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import Request as PageRequest

from tests.conftest import missing
from tests.serving.conftest import Running, closed_port

AXE = "axe-core@4.14.1"
PATIENCE_MS = 120_000  # no test waits this long unless it fails; machines may be busy
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A module at a time: while Playwright is on, asyncio tests elsewhere cannot run."""
    if not Path(CHROMIUM).exists():
        missing("chromium is not installed (Debian: chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core's source, fetched from npm once and kept between runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "burnish" / "npm"
    source = cache / AXE / "package" / "axe.min.js"
    if not source.exists():
        npm = shutil.which("npm")
        if npm is None:
            missing("npm is not installed (Debian: npm)")
        with tempfile.TemporaryDirectory() as folder:
            command = [npm, "pack", AXE, "--silent"]
            packed = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=120
            )
            if packed.returncode:
                missing(f"npm pack {AXE}: {packed.stderr}")
            (archive,) = Path(folder).glob("*.tgz")
            shutil.unpack_archive(archive, source.parent.parent, filter="data")
    return source.read_text()


@pytest.fixture(scope="module")
def started(empty_registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service for a module's tests; they differ by interaction and browser profile."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copy(empty_registry / "mlflow.db", folder)
    settings = ServingSettings(
        data_dir=folder / "data",
        mlflow_uri=f"sqlite:///{folder}/mlflow.db",
        redis_url=f"redis://127.0.0.1:{closed_port()}/0",
        poll_s=0.2,
    )
    with running_app(create_app(settings, StubEngine("Hello there."))) as running:
        yield running


@contextmanager
def running_app(app: FastAPI) -> Iterator[Running]:
    """The application on a port of its own, in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.02)
    assert server.started, "the service did not start"
    service = app.state.service
    host, port = listening.getsockname()
    yield Running(f"http://{host}:{port}", service.engine, service)
    service.draining = True  # streams of events end by this
    server.should_exit = server.force_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def engine(started: Running) -> StubEngine:
    """The model, saying "Hello there." quickly until a test tells it otherwise."""
    engine: StubEngine = started.engine
    engine.reply, engine.pace_s, engine.fails_after = "Hello there.", 0.001, None
    return engine


@pytest.fixture
def server(started: Running, engine: StubEngine) -> Running:
    return started


@pytest.fixture
def open_page(browser: Browser, server: Running) -> Iterator[Callable[..., Page]]:
    """`open_page(width=..., dark=..., path="/#/learning")`: a fresh profile with the page loaded."""
    contexts, problems = [], []

    def open_(
        width: int = 1280, height: int = 800, dark: bool = False, path: str = "", **options
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)

        def asked(request) -> None:
            if not request.url.startswith((server.url, "data:", "blob:")):
                problems.append(f"request to {request.url}")

        def said(message) -> None:
            # The browser reports refused requests by itself; pages are tested on those too.
            if message.type == "error" and "Failed to load resource" not in message.text:
                problems.append(message.text)

        page.on("request", asked)
        page.on("console", said)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(server.url + path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


def ask(page: Page, text: str = "Hi") -> None:
    """Ask and wait for the whole answer."""
    answers = page.locator(".answered.done").count()
    page.get_by_label("Your question").fill(text)
    page.keyboard.press("Enter")
    page.locator(".answered.done").nth(answers).wait_for()


def sent(request: PageRequest) -> dict:
    """The JSON body of a request that the page made."""
    return json.loads(request.post_data or "{}")


def answers(page: Page) -> list[dict]:
    """The answers of the conversation that shows, as the browser keeps them."""
    kept = page.evaluate(
        """() => {
             const [newest] = JSON.parse(localStorage.getItem('burnish.conversations'));
             return JSON.parse(localStorage.getItem('burnish.conversation.' + newest.id)).turns;
           }"""
    )
    return [turn["answers"][turn["shown"]] for turn in kept if turn["role"] == "assistant"]
