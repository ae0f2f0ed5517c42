"""Journeys without a mouse: what is reached shows that it has the focus, and nothing loses it.

Promoting a version by keyboard stands with what it needs, in test_learning.py.
"""

import pytest
from playwright.sync_api import Page, expect

from tests.serving.conftest import Running
from tests.serving.page.conftest import StubEngine, answers

FOCUSED = """(selector) => {
  let at = document.activeElement;
  while (at.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  const style = getComputedStyle(at);
  const seen = style.outlineStyle !== 'none' || at.closest('#composer') || at === document.body;
  return { there: at.matches(selector), seen: Boolean(seen), html: at.outerHTML.slice(0, 120) };
}"""


def tab_to(page: Page, selector: str, key: str = "Tab") -> None:
    """Press Tab until `selector` has the focus; all that had it on the way showed it."""
    for _ in range(60):
        page.keyboard.press(key)
        focused = page.evaluate(FOCUSED, selector)
        assert focused["seen"], f"the focus does not show on {focused['html']}"
        if focused["there"]:
            return
    pytest.fail(f"{key} does not reach {selector}")


def said(page: Page, text: str) -> None:
    expect(page.get_by_role("status")).to_have_text(text)


def chat(page: Page, text: str = "Hello") -> None:
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    page.locator(".answered.done").last.wait_for()


def votes(server: Running, page: Page) -> dict[str, str]:
    asked = {"interaction_id": answers(page)[0]["id"]}
    standing = server.http("GET", "/v1/feedback", params=asked).json()["data"]
    return {judgement["name"]: judgement["value"] for judgement in standing}


def test_chat_stop_and_edit(page: Page, engine: StubEngine):
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.type("Hello")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("you")
    page.keyboard.press("Enter")
    expect(page.locator(".asked p")).to_have_text("Hello\nyou", use_inner_text=True)
    page.locator(".answered.done").wait_for()
    expect(page.get_by_label("Your question")).to_be_focused()
    engine.reply, engine.pace_s = (lambda _: "word " * 200), 0.02
    page.keyboard.type("More")
    page.keyboard.press("Enter")
    expect(page.locator(".answered .text").last).to_contain_text("word")
    page.keyboard.press("Escape")
    said(page, "Answer stopped")
    expect(page.get_by_label("Your question")).to_be_focused()
    engine.reply = "Hello there."
    tab_to(page, ".asked .tools button", "Shift+Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+A")
    page.keyboard.type("Less")
    page.keyboard.press("Enter")
    expect(page.locator(".asked p").last).to_have_text("Less")
    page.locator(".answered.done").last.wait_for()
    expect(page.get_by_label("Your question")).to_be_focused()


def test_vote_say_why_and_correct(page: Page, server: Running):
    chat(page)
    tab_to(page, "[data-value=down]", "Shift+Tab")
    page.keyboard.press("Space")
    said(page, "Thank you, saved.")
    tab_to(page, "[data-reason=wrong]")
    page.keyboard.press("Enter")
    expect(page.locator("[data-reason=wrong]")).to_have_attribute("aria-pressed", "true")
    tab_to(page, "textarea")
    tab_to(page, "textarea")
    expect(page.get_by_label("What it should have said")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("Hello, you two.")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("button", name="Say more")).to_be_focused()
    said(page, "Thank you, saved.")
    assert votes(server, page) == {"thumbs": "down", "correction": "Hello, you two."}


def test_undo(page: Page, server: Running):
    chat(page)
    tab_to(page, "[data-value=up]", "Shift+Tab")
    page.keyboard.press("Enter")
    said(page, "Thank you, saved.")
    assert votes(server, page) == {"thumbs": "up"}
    tab_to(page, ".link")
    page.keyboard.press("Enter")
    said(page, "Taken back.")
    assert page.evaluate("document.activeElement !== document.body"), "the focus fell off the page"
    assert votes(server, page) == {}


def test_compare_two_versions_and_take_the_choice_back(page: Page, server: Running):
    tab_to(page, ".picker button", "Shift+Tab")
    page.keyboard.press("Enter")
    tab_to(page, "#ask")
    page.keyboard.type("Which is better?")
    page.keyboard.press("Enter")
    tab_to(page, "[data-vote=b]", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("[data-vote=b]")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".pair .saved")).to_contain_text("saved")
    expect(page.locator(".pair .badge").first).to_have_text("default@1")
    first, second = page.evaluate(
        """() => {
             const [newest] = JSON.parse(localStorage.getItem('burnish.conversations'));
             const { turns } = JSON.parse(localStorage.getItem('burnish.conversation.' + newest.id));
             return turns.at(-1).answers.map((answer) => answer.id);
           }"""
    )
    for interaction, value, other in ((first, "worse", second), (second, "better", first)):
        asked = {"interaction_id": interaction}
        (vote,) = server.http("GET", "/v1/feedback", params=asked).json()["data"]
        said_of = (vote["name"], vote["value"], vote["metadata"]["over"])
        assert said_of == ("preference", value, other)
    tab_to(page, ".pair .saved button")
    page.keyboard.press("Enter")
    said(page, "Taken back.")
    expect(page.locator("[data-vote=a]")).to_be_focused()
    asked = {"interaction_id": second}
    assert server.http("GET", "/v1/feedback", params=asked).json()["data"] == []
