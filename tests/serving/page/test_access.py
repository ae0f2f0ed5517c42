"""For screen readers: what they are told and how often, and axe in every state."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.serving.page.conftest import StubEngine, ask
from tests.serving.page.made_up import fulfilled, policy, report, ticks, version, vote

RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"],
    "rules": {"target-size": {"enabled": True}},
}
RICH = (
    "Look:\n\n## Part\n\n```\n" + "long " * 80 + "\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nDone."
)


def test_what_a_screen_reader_is_told(page: Page):
    ask(page, "Hi")
    page.get_by_role("button", name="Bad answer").click()
    expect(page.locator("#conversation")).to_match_aria_snapshot(
        """
        - region "Conversation":
          - article:
            - heading "You" [level=2]
            - paragraph: Hi
          - article:
            - heading "Burnish" [level=2]
            - paragraph: Hello there.
            - group "Judge this answer":
              - button "Good answer"
              - button "Bad answer" [pressed]
              - button "Say more" [expanded]
              - button "Copy"
              - text: default@1 Thank you, saved.
              - button "Undo"
              - group "What was wrong? (optional)":
                - text: What was wrong? (optional)
                - button "Not correct"
                - button "Missed the question"
                - button "Too long"
                - button "Too short"
                - button "Wrong tone"
              - text: A note (optional)
              - textbox "A note (optional)"
              - text: What it should have said (optional)
              - textbox "What it should have said (optional)"
              - button "Send feedback"
              - button "Close"
        """
    )
    # Tokens are not announced one by one: the only live region is the status line.
    live = page.locator("[aria-live], [role=log], [role=status], [role=alert]")
    assert [node.get_attribute("id") for node in live.all()] == ["status"]


def violations(page: Page) -> list[tuple[str, str]]:
    """What axe finds, rule and element. A target that a bar which stays in place covers in part is none: it is
    found at one place of scrolling and not at another."""

    def found() -> list[tuple[str, str]]:
        told = page.evaluate("(rules) => axe.run(document, rules)", RULES)["violations"]
        return [(rule["id"], node["html"][:120]) for rule in told for node in rule["nodes"]]

    first = found()
    if any(rule == "target-size" for rule, _ in first):
        page.evaluate("() => scrollBy(0, scrollY > 40 ? -40 : 40)")
        again = found()
        first = [one for one in first if one in again]
    return first


# What each live region says from now on, once for each change of it.
SPOKEN = """() => {
  const live = '[aria-live], [role=status], [role=alert], [role=log]';
  window.spoken = [];
  new MutationObserver((changes) => {
    const nodes = changes.flatMap(({ target, addedNodes }) => [target, ...addedNodes]);
    const regions = new Set(nodes.map((node) => (node.closest ? node : node.parentElement)?.closest(live)));
    for (const region of regions) if (region) window.spoken.push(region.textContent);
  }).observe(document, { subtree: true, childList: true, characterData: true });
}"""


def test_a_long_stream_speaks_at_its_beginning_and_at_its_end(page: Page, engine: StubEngine):
    page.evaluate(SPOKEN)
    engine.reply, engine.pace_s = (lambda _: f"{RICH}\n\n{'many words ' * 150}"), 0.001
    ask(page)
    assert page.evaluate("window.spoken") == ["Generating", "Answer complete"]
    page.get_by_role("button", name="Good answer").click()
    expect(page.get_by_role("status")).to_have_text("Thank you, saved.")
    assert page.evaluate("window.spoken.slice(2)") == ["Thank you, saved."]
    page.get_by_role("button", name="Compare two versions").click()
    page.get_by_label("Your question").fill("Twice")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="B is better").wait_for()
    assert page.evaluate("window.spoken.slice(3)") == ["Generating", "Answer complete"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing(
    open_page: Callable[..., Page], engine: StubEngine, axe: str, width: int, dark: bool
):
    page = open_page(width=width, dark=dark)
    page.evaluate(axe)

    def check(state: str) -> None:
        assert violations(page) == [], state
        sideways = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not sideways, f"{state}: the page scrolls sideways"

    expect(page.get_by_label("Your question")).to_be_visible()
    check("empty")
    engine.reply, engine.pace_s = (lambda _: RICH + " more" * 200), 0.01
    page.get_by_label("Your question").fill("Hi")
    page.keyboard.press("Enter")
    expect(page.locator(".answered .text")).to_contain_text("Look")
    check("streaming")
    page.get_by_role("button", name="Stop").click()
    page.locator(".answered.done").wait_for()
    engine.reply, engine.pace_s = (lambda _: RICH), 0
    ask(page, "Again")
    page.get_by_role("button", name="Bad answer").last.click()
    page.get_by_role("button", name="Too long").last.click()
    page.get_by_label("What it should have said").last.focus()
    check("judging")
    engine.fails_after = 4
    ask(page, "Once more")
    check("in error")
    page.get_by_role("button", name="Settings").click()
    check("settings")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Compare two versions").click()
    engine.fails_after = None
    page.get_by_label("Your question").fill("Twice")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="B is better").click()
    expect(page.locator(".pair .saved")).to_contain_text("saved")
    check("compared")
    if width == 360:
        page.get_by_role("button", name="Conversations").click()
        check("conversations")
    page.get_by_role("button", name="Delete: Hi").click()
    check("a note with undo")
    error = {"error": {"message": "No API key was sent.", "code": "invalid_api_key"}}
    page.route("**/v1/**", lambda route: route.fulfill(status=401, json=error))
    # By address, since a vote whose fate is asked may have brought the dialog first.
    page.evaluate("location.hash = '#/learning'")
    expect(page.get_by_role("dialog")).to_be_visible()
    check("asking for a key")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_in_what_was_learnt(
    open_page: Callable[..., Page], axe: str, width: int, dark: bool
):
    page = open_page(width=width, dark=dark)
    page.evaluate(axe)

    def check(path: str, shown: str, state: str) -> None:
        page.evaluate("(path) => { location.hash = path; }", path)
        expect(page.locator(shown).first).to_be_visible()
        assert violations(page) == [], state
        sideways = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not sideways, f"{state}: the page scrolls sideways"

    check("#/learning", "ol.moves", "empty")
    check("#/learning/version/1", ".card", "the base")
    check("#/chat", "#ask", "back")
    for address, told in (("policies/default?*", policy), ("policies/default/versions/*", version)):
        page.route(f"**/v1/{address}", fulfilled(told("plain words")))
    page.route("**/v1/learner?*", fulfilled(ticks("plain words")))
    page.route("**/v1/learner/report?*", fulfilled(report()))
    page.route("**/v1/feedback/*", fulfilled(vote("plain words")))
    check("#/learning", ".liked svg", "filled")
    check("#/learning/version/2", ".checks", "a version")
    check("#/learning/vote/x", ".fate", "a vote")
    page.unroute_all()
    error = {"error": {"message": "The registry does not answer.", "code": "registry_unavailable"}}
    page.route("**/v1/**", lambda route: route.fulfill(status=503, json=error))
    check("#/learning", ".state.bad", "in error")
