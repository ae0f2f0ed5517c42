"""The element `burnish-feedback` on a product's page, on another origin than the service.

The product is the one of ops/examples/embedding; Burnish names `http://localhost:PORT` as its origin and not
`http://127.0.0.1:PORT`, under which the same pages answer.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from burnish.ops.examples.embedding.product import serve as serve_product
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings
from playwright.sync_api import Browser, BrowserContext, Page

from tests.serving.conftest import Running, closed_port
from tests.serving.page.react_bundle import react_modules


@dataclass
class Product:
    """The product's server, and the service behind it."""

    port: int
    burnish: Running

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def votes(self, interaction: str) -> list[dict]:
        params = {"interaction_id": interaction}
        return self.burnish.http("GET", "/v1/feedback", params=params).json()["data"]


@pytest.fixture
def product(serve: Callable[..., Running], settings: ServingSettings) -> Iterator[Product]:
    port = closed_port()
    told = settings.model_copy(update={"feedback_origins": (f"http://localhost:{port}",)})
    burnish = serve(told, StubEngine("Hello there."))
    server = serve_product(burnish.url, port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield Product(port, burnish)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    context.set_default_timeout(120_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, product: Product) -> Page:
    page = context.new_page()
    page.goto(product.url)
    return page


def ask(page: Page) -> tuple[str, str]:
    """An answer's id, and the token that came with it."""
    page.get_by_label("Ask something").fill("Hi")
    with page.expect_response("**/ask") as answered:
        page.get_by_role("button", name="Ask").click()
    page.get_by_role("group", name="Judge this answer").last.wait_for()
    told = answered.value.json()
    return told["id"], told["token"]


def status(page: Page, text: str) -> None:
    page.locator("burnish-feedback").get_by_role("status").get_by_text(text).wait_for()


def test_a_thumb_arrives_and_is_taken_back(page: Page, product: Product) -> None:
    interaction, _ = ask(page)
    up = page.get_by_role("button", name="Good answer")
    up.click()
    status(page, "saved")
    (vote,) = product.votes(interaction)
    assert (vote["name"], vote["value"], vote["user"][:8]) == ("thumbs", "up", "visitor-")
    assert up.get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Undo").click()
    status(page, "Taken back")
    assert product.votes(interaction) == []
    assert up.get_attribute("aria-pressed") == "false"


def test_down_is_saved_at_once_and_offers_reasons_a_note_and_a_correction(
    page: Page, product: Product
) -> None:
    interaction, _ = ask(page)
    page.get_by_role("button", name="Bad answer").focus()
    page.keyboard.press("Enter")
    status(page, "saved")
    assert [vote["value"] for vote in product.votes(interaction)] == ["down"]
    page.get_by_role("button", name="Too long").click()
    page.get_by_label("A note").fill("It rambles.")
    page.get_by_label("What it should have said").fill("<b>Hello.</b>")
    page.get_by_role("button", name="Send feedback").click()
    page.wait_for_function("() => document.querySelector('burnish-feedback').held.correction?.id")
    votes = {vote["name"]: vote for vote in product.votes(interaction)}
    assert votes["thumbs"]["metadata"] == {"reasons": ["long"]}
    assert votes["comment"]["value"] == "It rambles."
    assert votes["correction"]["value"] == "<b>Hello.</b>"


def test_a_second_interaction_s_token_is_refused(page: Page, product: Product) -> None:
    first, _ = ask(page)
    second, token = ask(page)
    refused = page.evaluate(
        """async ([url, token, interaction_id]) => {
          const headers = {Authorization: `Bearer ${token}`, "Content-Type": "application/json"};
          const body = JSON.stringify({interaction_id, name: "thumbs", value: "up"});
          const answer = await fetch(`${url}/v1/feedback`, {method: "POST", headers, body});
          return [answer.status, (await answer.json()).error.code];
        }""",
        [product.burnish.url, token, first],
    )
    assert refused == [403, "token_not_allowed"]
    assert product.votes(first) == product.votes(second) == []


def test_an_origin_that_is_not_named_gets_neither_the_element_nor_an_answer(
    context: BrowserContext, product: Product
) -> None:
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{product.port}")
    page.get_by_label("Ask something").fill("Hi")
    with page.expect_response("**/ask") as answered:
        page.get_by_role("button", name="Ask").click()
    told = answered.value.json()
    assert page.evaluate("customElements.get('burnish-feedback') === undefined")
    outcome = page.evaluate(
        """async ([url, token]) => {
          const headers = {Authorization: `Bearer ${token}`, "Content-Type": "application/json"};
          const body = JSON.stringify({name: "thumbs", value: "up"});
          try { return (await fetch(`${url}/v1/feedback`, {method: "POST", headers, body})).status; }
          catch (error) { return error.name; }
        }""",
        [product.burnish.url, told["token"]],
    )
    assert outcome == "TypeError"  # the preflight was refused
    assert product.votes(told["id"]) == []


def test_a_token_that_has_expired_is_renewed_and_nothing_is_lost(
    page: Page, product: Product
) -> None:
    interaction, _ = ask(page)
    page.evaluate("document.querySelector('burnish-feedback').token = 'fbt_gone.gone'")
    page.get_by_role("button", name="Good answer").click()
    status(page, "saved")
    assert [vote["value"] for vote in product.votes(interaction)] == ["up"]


def test_a_vote_without_a_network_is_sent_when_there_is_one(
    page: Page, context: BrowserContext, product: Product
) -> None:
    interaction, _ = ask(page)
    context.set_offline(True)
    page.get_by_role("button", name="Good answer").click()
    status(page, "cannot be reached")
    context.set_offline(False)
    status(page, "saved")
    assert [vote["value"] for vote in product.votes(interaction)] == ["up"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_element_has_no_accessibility_violations(
    browser: Browser, product: Product, axe: str, scheme
) -> None:
    context = browser.new_context(color_scheme=scheme)
    try:
        page = context.new_page()
        page.goto(product.url)
        ask(page)
        page.get_by_role("button", name="Bad answer").click()
        status(page, "saved")
        page.evaluate(axe)
        found = page.evaluate("axe.run('burnish-feedback')")
    finally:
        context.close()
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []


def test_the_react_component_judges_and_hears_of_it(
    context: BrowserContext, product: Product, tmp_path: Path
) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed (Debian: npm)")
    modules = react_modules()
    page = context.new_page()
    page.route(
        "https://esm.sh/**",
        lambda route: route.fulfill(
            body=modules["client" if "client" in route.request.url else "react"],
            content_type="text/javascript",
            headers={"Access-Control-Allow-Origin": "*"},
        ),
    )
    page.goto(f"{product.url}/react")
    interaction, _ = ask(page)
    page.get_by_role("button", name="Good answer").click()
    page.get_by_text("Judged 1 times").wait_for()
    assert [vote["value"] for vote in product.votes(interaction)] == ["up"]


def test_on_our_own_page_it_works_by_a_transport_under_the_strict_policy(
    open_page: Callable[..., Page], server: Running
) -> None:
    interaction = server.say("Hi").id
    page = open_page()  # which fails the test on what the policy reports
    page.evaluate(
        """async (interaction_id) => {
          await import("/static/burnish-feedback.js");
          const { get, post, remove } = await import("/static/api.js");
          const element = document.createElement("burnish-feedback");
          element.transport = {
            standing: () => get(`/v1/feedback?interaction_id=${interaction_id}`).then((told) => told.data),
            save: (judgement) => post("/v1/feedback", { interaction_id, ...judgement }),
            retract: (id) => remove(`/v1/feedback/${id}`),
          };
          document.body.append(element); // the router fills main
        }""",
        interaction,
    )
    element = page.locator("burnish-feedback")
    element.get_by_role("button", name="Good answer").click()
    element.get_by_role("status").get_by_text("saved").wait_for()
    rounded = "(button) => getComputedStyle(button).borderRadius"
    assert element.get_by_role("button", name="Good answer").evaluate(rounded) == "8px"
    votes = server.http("GET", "/v1/feedback", params={"interaction_id": interaction}).json()
    assert [vote["value"] for vote in votes["data"]] == ["up"]
