"""Asking on the page: text as it streams, the version that answered, errors that lose nothing."""

import time
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.serving.conftest import Running
from tests.serving.page.conftest import StubEngine, ask, sent


def test_text_streams_and_the_badge_names_the_version(page: Page, engine: StubEngine):
    engine.reply, engine.pace_s = (lambda _: "One and **two** and three."), 0.05
    page.get_by_label("Your question").fill("Count.")
    page.keyboard.press("Enter")
    expect(page.locator(".asked p")).to_have_text("Count.")
    text = page.locator(".answered .text")
    expect(text).to_contain_text("One")
    assert "three" not in text.inner_text()
    expect(page.get_by_role("status")).to_have_text("Generating")
    expect(page.locator(".answered")).to_have_attribute("aria-busy", "true")
    expect(text).to_have_text("One and two and three.")
    expect(text.locator("strong")).to_have_text("two")
    expect(page.get_by_role("status")).to_have_text("Answer complete")
    expect(page.locator(".answered")).to_have_attribute("aria-busy", "false")
    expect(page.locator(".badge")).to_have_text("default@1")


def test_the_badge_is_what_answered_not_what_was_asked_for(page: Page):
    def old_server(route) -> None:
        chunk = '{"id":"chatcmpl-x","model":"default","choices":[{"index":0,"delta":%s}]}'
        said = chunk % '{"content":"hi"}'
        body = f"data: {said}\n\ndata: [DONE]\n\n"
        route.fulfill(body=body, content_type="text/event-stream")

    page.route("**/v1/chat/completions", old_server)
    ask(page)
    expect(page.locator(".badge")).to_have_text("unknown version")


def test_a_version_can_be_chosen(page: Page):
    chooser = page.get_by_label("Model version")
    chooser.focus()
    expect(chooser.locator("option")).to_have_text(["default (now 1)", "default@1"])
    chooser.select_option("default@1")
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page)
    assert sent(asked.value)["model"] == "default@1"


def test_the_whole_conversation_is_sent_and_kept(page: Page):
    ask(page, "First")
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page, "Second")
    said = [(m["role"], m["content"]) for m in sent(asked.value)["messages"]]
    assert said == [("user", "First"), ("assistant", "Hello there."), ("user", "Second")]
    page.reload()
    expect(page.locator(".asked p")).to_have_text(["First", "Second"])
    expect(page.locator(".answered .badge")).to_have_text(["default@1", "default@1"])
    page.get_by_role("button", name="New chat").click()
    page.reload()
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.get_by_role("heading", level=2)).to_contain_text("Ask something")


def test_a_broken_stream_keeps_its_text_and_says_why_below(page: Page, engine: StubEngine):
    engine.fails_after = 6
    ask(page)
    expect(page.locator(".answered .text")).to_have_text("Hello")
    expect(page.locator(".note.error")).to_contain_text("the step failed")
    engine.fails_after = None
    ask(page, "Again")
    expect(page.locator(".answered .text").last).to_have_text("Hello there.")


def test_a_connection_that_ends_early_is_an_error(page: Page):
    said = 'data: {"id":"chatcmpl-x","choices":[{"index":0,"delta":{"content":"Half"}}]}\n\n'
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(body=said, content_type="text/event-stream"),
    )
    ask(page)
    expect(page.locator(".answered .text")).to_have_text("Half")
    expect(page.locator(".note.error")).to_contain_text("ended before the answer did")


def test_stop_keeps_what_came_and_frees_the_engine(page: Page, engine: StubEngine):
    engine.reply, engine.pace_s = (lambda _: "word " * 200), 0.02
    page.get_by_label("Your question").fill("Talk.")
    page.keyboard.press("Enter")
    expect(page.locator(".answered .text")).to_contain_text("word")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".note")).to_have_text("You stopped this answer.")
    expect(page.locator(".answered .text")).to_contain_text("word")
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    page.wait_for_timeout(200)
    assert not engine.running


def test_the_reader_can_scroll_away_while_it_streams(
    open_page: Callable[..., Page], engine: StubEngine
):
    page = open_page(height=500)

    def until(condition: str) -> None:
        # Not wait_for_function: it evaluates strings in the page, which the policy forbids.
        deadline = time.monotonic() + 30
        while not page.evaluate(condition):
            assert time.monotonic() < deadline, condition
            page.wait_for_timeout(20)

    engine.reply, engine.pace_s = (lambda _: "line\n\n" * 200), 0.01
    page.get_by_label("Your question").fill("Talk.")
    page.keyboard.press("Enter")
    until("scrollY > 200")
    page.mouse.move(400, 250)
    page.mouse.wheel(0, -5000)
    until("scrollY < 50")
    before = page.locator(".answered .text p").count()
    until(f"document.querySelectorAll('.text p').length > {before + 5}")
    assert page.evaluate("scrollY") < 50
    page.get_by_role("button", name="Stop").click()


def test_a_server_with_keys_is_asked_with_a_key(page: Page, server: Running):
    seen = []

    def guarded(route) -> None:
        seen.append(route.request.headers.get("authorization"))
        if seen[-1] == "Bearer bk-right":
            return route.continue_()
        error = {"message": "No API key was sent.", "code": "invalid_api_key"}
        return route.fulfill(status=401, json={"error": error})

    page.route("**/v1/**", guarded)
    page.reload()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_label("API key").fill("bk-right")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    ask(page, "Again")
    expect(page.locator(".answered .text").last).to_have_text("Hello there.")
    assert "bk-right" not in page.evaluate("JSON.stringify(localStorage)")
