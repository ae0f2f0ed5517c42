"""The operations view: what is degraded and what to do, live figures, logs as text, no permission."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.serving.conftest import Running
from tests.serving.page.test_access import violations

HOSTILE = "<img src=x onerror=window.hit=1>"


@pytest.fixture
def operations(open_page: Callable[..., Page], server: Running) -> Page:
    folder = server.service.settings.data_dir / "logs"
    folder.mkdir(exist_ok=True)
    (folder / "serving.log").write_text(f"INFO up\n{HOSTILE}\n")
    page = open_page()
    page.goto(f"{page.url.split('#')[0]}#/operations")
    page.get_by_role("heading", name="Health").wait_for()
    return page


def test_what_is_degraded_comes_with_what_to_do(operations: Page) -> None:
    expect(operations.get_by_text("Answers are given, but not everything")).to_be_visible()
    problem = operations.locator(".problems li", has_text="redis:")
    expect(problem).to_contain_text("Start the Redis of BURNISH_REDIS_URL again")
    expect(operations.locator(".parts li", has_text="engine")).to_contain_text("ok")


def test_figures_are_live(operations: Page, server: Running) -> None:
    server.say("Hi")
    answers = operations.get_by_role("img", name="Whole answers: how many of")
    expect(answers).to_be_visible()
    expect(
        operations.locator(".facts div", has_text="Tokens written a second")
    ).not_to_contain_text("…")


def test_logs_are_text(operations: Page) -> None:
    expect(operations.locator("pre")).to_contain_text(HOSTILE)
    assert operations.evaluate("window.hit") is None


def test_without_the_scope_it_says_whom_to_ask(open_page: Callable[..., Page]) -> None:
    page = open_page()
    refusal = '{"error": {"message": "This key lacks the scope", "code": "missing_scope"}}'
    page.route("**/v1/operations*", lambda route: route.fulfill(status=403, body=refusal))
    page.route("**/v1/operations/**", lambda route: route.fulfill(status=403, body=refusal))
    page.goto(f"{page.url.split('#')[0]}#/operations")
    expect(page.get_by_text("Your key does not allow this").first).to_be_visible()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing(
    open_page: Callable[..., Page], server: Running, axe: str, width: int, dark: bool
) -> None:
    server.say("Hi")
    page = open_page(width=width, dark=dark)
    page.goto(f"{page.url.split('#')[0]}#/operations")
    page.get_by_role("img", name="Tokens written a second").wait_for()
    page.evaluate(axe)
    assert violations(page) == []
