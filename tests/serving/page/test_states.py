"""Each view while it loads, empty, in error, offline and without permission: designed, accessible, and over by itself.

The chat's own states are in test_access.py, test_chat.py and at the end here.
"""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.serving.page.conftest import StubEngine, ask
from tests.serving.page.made_up import fulfilled, policy, ticks, version, vote
from tests.serving.page.test_access import violations

VIEWS = {
    "learning": ("#/learning", "ol.moves"),
    "version": ("#/learning/version/2", ".checks"),
    "vote": ("#/learning/vote/x", ".fate"),
    "memory": ("#/memory/user/ana", "text=No sessions of this user"),
    "session": ("#/memory/session/days", "text=This session has no steps"),
    "operations": ("#/operations", "text=Health"),
}
REFUSALS = {
    "in error": (503, "registry_unavailable", "The registry does not answer."),
    "no permission": (403, "missing_scope", "This key lacks the scope."),
}


def refused(page: Page, status: int, code: str, message: str) -> None:
    body = {"error": {"message": message, "code": code}}
    page.route("**/v1/**", lambda route: route.fulfill(status=status, json=body))


def answered(page: Page) -> None:
    """As a service does that has hardly anything yet; operations are the real one's."""
    page.unroute_all()
    page.route("**/v1/policies/default?*", fulfilled(policy("words")))
    page.route("**/v1/policies/default/versions/*", fulfilled(version("words")))
    page.route("**/v1/learner?*", fulfilled(ticks("words")))
    page.route("**/v1/feedback/*", fulfilled(vote("words")))
    page.route("**/v1/memory/sessions?*", fulfilled({"sessions": []}))
    page.route("**/v1/memory/records?*", fulfilled({"records": []}))
    page.route("**/v1/memory/sessions/*/pins", fulfilled({"pins": []}))
    page.route("**/v1/memory/sessions/*/compactions", fulfilled({"compactions": []}))
    page.route("**/v1/memory/sessions/*/changes?*", fulfilled({"changes": []}))
    counts = ("steps", "tokens", "tokens_view", "tokens_saved", "compactions", "updated_at")
    page.route("**/v1/memory/sessions/*/stats", fulfilled(dict.fromkeys(counts, 0)))


def check(page: Page, state: str) -> None:
    assert violations(page) == [], state
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), state


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_in_any_state_of_any_view(
    open_page: Callable[..., Page], axe: str, width: int, dark: bool
):
    page = open_page(width=width, dark=dark)
    page.evaluate(axe)

    def go(path: str) -> None:
        page.evaluate("() => { location.hash = '#/chat'; }")
        expect(page.locator("#ask")).to_be_visible()
        page.evaluate("(path) => { location.hash = path; }", path)

    for view, (path, content) in VIEWS.items():
        page.unroute_all()
        page.route("**/v1/**", lambda route: None)
        go(path)
        expect(page.locator(".state.busy").first).to_be_visible()
        check(page, f"{view}: loading")
        for state, refusal in REFUSALS.items():
            page.unroute_all()
            refused(page, *refusal)
            go(path)
            expect(page.locator(".state.bad").first).to_be_visible()
            check(page, f"{view}: {state}")
        page.unroute_all()
        page.route("**/v1/**", lambda route: route.abort())
        go(path)
        expect(page.locator(".state.bad").first).to_contain_text("cannot be reached")
        check(page, f"{view}: offline")
        answered(page)
        go(path)
        expect(page.locator(content).first).to_be_visible()
        check(page, f"{view}: little to show")


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_says_what_is_wrong_and_recovers_by_itself(page: Page, view: str):
    path, content = VIEWS[view]
    page.route("**/v1/**", lambda route: route.abort())
    page.evaluate("(path) => { location.hash = path; }", path)
    bad = page.locator(".state.bad")
    expect(bad.first).to_contain_text("The server cannot be reached")
    expect(page.locator("#offline")).to_be_visible()
    refused(
        page, *REFUSALS["in error"]
    )  # over what was, or the page might meet the real server between
    expect(bad.first).to_contain_text("The registry does not answer.")
    expect(page.locator("#offline")).to_be_hidden()
    answered(page)
    expect(page.locator(content).first).to_be_visible()
    expect(bad).to_have_count(0)


@pytest.mark.parametrize("view", VIEWS)
def test_without_permission_it_says_so_and_a_key_that_may_is_enough(page: Page, view: str):
    path, content = VIEWS[view]
    refused(page, *REFUSALS["no permission"])
    page.evaluate("(path) => { location.hash = path; }", path)
    bad = page.locator(".state.bad")
    expect(bad.first).to_contain_text("Your key does not allow this")
    answered(page)
    page.evaluate("() => dispatchEvent(new Event('burnish-key'))")
    expect(page.locator(content).first).to_be_visible()
    expect(bad).to_have_count(0)


def test_a_chat_that_a_key_may_not_have_keeps_the_question(page: Page):
    refused(page, *REFUSALS["no permission"])
    ask(page, "May I?")
    expect(page.locator(".note.error")).to_contain_text("This key lacks the scope")
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".answered .text")).to_have_text("Hello there.")


def test_a_question_asked_offline_is_answered_once_the_server_is_back(
    page: Page, engine: StubEngine
):
    asked = len(engine.requests)
    expect(page.get_by_label("Your question")).to_be_focused()
    page.route("**/*", lambda route: route.abort())
    page.get_by_label("Your question").fill("Are you there?")
    page.keyboard.press("Enter")
    expect(page.locator("#offline")).to_be_visible()
    page.get_by_label("Your question").fill("half a thought")
    page.unroute_all()
    expect(page.locator(".answered .text")).to_have_text("Hello there.")
    expect(page.locator("#offline")).to_be_hidden()
    expect(page.get_by_label("Your question")).to_have_value("half a thought")
    assert len(engine.requests) == asked + 1
