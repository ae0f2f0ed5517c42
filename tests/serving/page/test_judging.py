"""Judging an answer: saved at once, changed and taken back, and never shown as saved when not."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.serving.conftest import Running
from tests.serving.page.conftest import StubEngine, answers, ask, sent


def held(server: Running, page: Page) -> dict[str, dict]:
    """What the server holds on the page's first answer, by name."""
    interaction = answers(page)[0]["id"]
    answer = server.http("GET", "/v1/feedback", params={"interaction_id": interaction})
    return {judgement["name"]: judgement for judgement in answer.json()["data"]}


SAVED = "Thank you, saved."


def note(page: Page, text: str) -> None:
    """What the element says, which the page's status line says to screen readers."""
    expect(page.locator("burnish-feedback").get_by_text(text)).to_be_visible()
    expect(page.get_by_role("status")).to_have_text(text)


def saved(page: Page, button: str) -> None:
    """Click, and wait for the answer to what the click sends."""
    with page.expect_response("**/v1/feedback") as posted:
        page.get_by_role("button", name=button).click()
    assert posted.value.status == 202


@pytest.mark.parametrize(("label", "value"), [("Good answer", "up"), ("Bad answer", "down")])
def test_a_thumb_is_saved_at_once(page: Page, server: Running, label: str, value: str):
    ask(page)
    thumb = page.get_by_role("button", name=label)
    expect(thumb).to_have_attribute("aria-pressed", "false")
    with page.expect_request("**/v1/feedback") as posted:
        thumb.click()
    body = sent(posted.value)
    assert (body["name"], body["value"]) == ("thumbs", value)
    assert body["interaction_id"].startswith("chatcmpl-")
    expect(thumb).to_have_attribute("aria-pressed", "true")
    expect(thumb).to_have_accessible_name(label)
    note(page, SAVED)
    assert held(server, page)["thumbs"]["value"] == value


def test_the_other_thumb_replaces_and_drops_stale_reasons(page: Page, server: Running):
    ask(page)
    saved(page, "Bad answer")
    saved(page, "Too long")
    saved(page, "Wrong tone")
    expect(page.get_by_role("button", name="Too long")).to_have_attribute("aria-pressed", "true")
    before = held(server, page)["thumbs"]
    assert before["metadata"] == {"reasons": ["long", "tone"]}
    saved(page, "Good answer")
    expect(page.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_text("What was wrong?")).to_be_hidden()
    after = held(server, page)["thumbs"]
    assert (after["value"], after["metadata"]) == ("up", {})
    assert after["id"] == before["id"]


@pytest.mark.parametrize("how", ["Undo", "Good answer"])
def test_a_thumb_can_be_taken_back_and_given_again(page: Page, server: Running, how: str):
    ask(page)
    thumb = page.get_by_role("button", name="Good answer")
    thumb.click()
    note(page, SAVED)
    page.get_by_role("button", name=how).click()
    note(page, "Taken back.")
    expect(thumb).to_have_attribute("aria-pressed", "false")
    assert held(server, page) == {}
    page.reload()
    expect(thumb).to_have_attribute("aria-pressed", "false")
    thumb.click()
    note(page, SAVED)
    assert held(server, page)["thumbs"]["value"] == "up"


def test_a_note_and_a_correction_are_saved_and_can_be_changed(page: Page, server: Running):
    ask(page)
    more = page.get_by_role("button", name="Say more")
    more.click()
    expect(page.get_by_label("A note")).to_be_focused()
    expect(page.get_by_text("What was wrong?")).to_be_hidden()
    page.get_by_label("A note").fill("A bit curt.")
    field = page.get_by_label("What it should have said")
    field.focus()
    expect(field).to_have_value("Hello there.")
    field.fill("Good morning.")
    page.keyboard.press("Control+Enter")
    expect(more).to_be_focused()
    expect(more).to_have_attribute("aria-expanded", "false")
    note(page, SAVED)
    expect(page.locator(".fate")).to_contain_text("Saved")
    stored = held(server, page)
    assert stored["comment"]["value"] == "A bit curt."
    assert stored["correction"]["value"] == "Good morning."
    page.reload()
    more.click()
    expect(page.get_by_label("A note")).to_have_value("A bit curt.")
    expect(field).to_have_value("Good morning.")
    page.get_by_label("A note").fill("")
    field.fill("Good evening.")
    saved(page, "Send feedback")
    note(page, SAVED)
    changed = held(server, page)
    assert "comment" not in changed, "an emptied note is taken back"
    assert changed["correction"]["value"] == "Good evening."
    assert changed["correction"]["id"] == stored["correction"]["id"]


def test_an_answer_left_as_it_is_is_no_correction(page: Page, server: Running):
    ask(page)
    saved(page, "Bad answer")
    page.get_by_label("What it should have said").focus()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_label("What it should have said")).to_be_hidden()
    page.get_by_role("button", name="Say more").click()
    expect(page.get_by_label("What it should have said")).to_have_value("")
    assert set(held(server, page)) == {"thumbs"}


def test_what_the_server_refuses_is_not_shown_as_saved(page: Page):
    ask(page)
    error = {"error": {"message": "This answer is another tenant's.", "code": "forbidden"}}
    page.route("**/v1/feedback", lambda route: route.fulfill(status=403, json=error))
    thumb = page.get_by_role("button", name="Good answer")
    thumb.click()
    note(page, "Not saved: This answer is another tenant's.")
    expect(thumb).to_have_attribute("aria-pressed", "false")
    page.reload()
    expect(thumb).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize("away", ["unreachable", "full"])
def test_what_cannot_be_saved_yet_is_kept_and_saved_by_itself(
    page: Page, server: Running, away: str
):
    ask(page)
    error = {"error": {"message": "The spool is full.", "code": "spool_full"}}

    def refused(route: Route) -> None:
        route.abort() if away == "unreachable" else route.fulfill(status=503, json=error)

    page.route("**/v1/feedback", refused)
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_label("A note").fill("Rude.")
    page.keyboard.press("Control+Enter")
    why = "The spool is full." if away == "full" else "The server cannot be reached."
    note(page, f"Not saved yet, and tried again by itself: {why}")
    assert held(server, page) == {}
    page.get_by_role("button", name="New chat").click()  # the answer leaves the page
    page.unroute("**/v1/feedback")
    page.get_by_role("link", name="Hi").click()
    expect(page.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")
    stored = held(server, page)
    assert (stored["thumbs"]["value"], stored["comment"]["value"]) == ("down", "Rude.")


def test_a_partial_answer_can_be_judged(page: Page, server: Running, engine: StubEngine):
    engine.reply, engine.pace_s = (lambda _: "word " * 200), 0.02
    page.get_by_label("Your question").fill("Talk.")
    page.keyboard.press("Enter")
    expect(page.locator(".answered .text")).to_contain_text("word")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Bad answer").click()
    note(page, SAVED)
    assert held(server, page)["thumbs"]["value"] == "down"


def test_copying_is_a_signal(open_page: Callable[..., Page], server: Running):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    ask(page)
    saved(page, "Copy")
    expect(page.get_by_role("status")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == "Hello there."
    assert held(server, page)["signal"]["value"] == "copied"


def test_questions_and_judgements_carry_the_readers_name(page: Page, server: Running):
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page)
    reader = page.evaluate("localStorage.getItem('burnish.reader')")
    assert reader.startswith("browser-")
    assert sent(asked.value)["user"] == reader
    with page.expect_request("**/v1/feedback") as posted:
        page.get_by_role("button", name="Good answer").click()
    assert sent(posted.value)["user"] == reader
    page.reload()
    assert page.evaluate("localStorage.getItem('burnish.reader')") == reader
