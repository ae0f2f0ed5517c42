"""Long answers and long histories cost a bounded amount of work: counted, not timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.serving.page.made_up import fulfilled, policy, report

# Answers of about 20,000 tokens, each of one kind of block.
LONG = {
    "paragraphs": "\n\n".join(
        f"Paragraph {n} with **bold** and `code` words." for n in range(2000)
    ),
    "code": "```py\n" + "\n".join(f"x{n} = f({n}) + g({n})" for n in range(4000)) + "\n```\n\nEnd.",
    "list": "\n".join(f"{n}. Item {n} with **bold** words" for n in range(1, 2000)),
    "wall": " ".join(f"word{n % 97}" for n in range(14000)),
}
GROWN = """async ([text, piece]) => {
  const { GrowingMarkdown } = await import('/static/markdown.js');
  const root = document.createElement('div');
  const grown = new GrowingMarkdown(root);
  let most = 0;
  for (let at = 0; at < text.length; at += piece) {
    const before = grown.lexed;
    grown.write(text.slice(at, at + piece));
    if (at < text.length - 100) most = Math.max(most, grown.lexed - before);
  }
  return { most, text: root.textContent.replace(/\\s+/g, '') };
}"""


@pytest.mark.parametrize("kind", LONG)
def test_each_piece_of_a_long_answer_costs_as_much_as_the_last(page: Page, kind: str):
    streamed = page.evaluate(GROWN, [LONG[kind], 25])
    assert streamed["most"] < 8000, "characters read for one piece"
    whole = page.evaluate(GROWN, [LONG[kind], len(LONG[kind])])
    assert streamed["text"] == whole["text"]


def test_a_list_that_was_settled_in_parts_counts_on(page: Page):
    starts = page.evaluate(
        """async (text) => {
             const { GrowingMarkdown } = await import('/static/markdown.js');
             const root = document.createElement('div');
             const grown = new GrowingMarkdown(root);
             for (let at = 0; at < text.length; at += 25) grown.write(text.slice(at, at + 25));
             return [...root.querySelectorAll('ol')].flatMap((ol) =>
               [...ol.children].map((item, index) => [ol.start + index, item.textContent.split(' ')[1]]));
           }""",
        LONG["list"],
    )
    assert len(starts) == 1999
    assert all(str(number) == word for number, word in starts)


def test_a_thousand_versions_and_a_hundred_thousand_votes_are_aggregated(
    open_page: Callable[..., Page],
):
    page = open_page()
    told = report()
    rate = told["report"]["versions"][0]["liked"]
    told["report"]["versions"] = [
        {"version": n, "liked": {**rate, "count": 100}, "enough": True, "foreseen": None}
        for n in range(1, 1001)
    ]
    told["report"]["votes"] = 100_000
    long: dict[str, Any] = policy("x") | {"name": "default"}
    long["history"] = long["history"] * 120
    long["versions"] = [{**long["versions"][0], "version": n} for n in range(881, 1001)]
    asked: list[str] = []
    page.route("**/v1/policies/default?*", fulfilled(long))
    page.route("**/v1/learner/report?*", fulfilled(told))
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("link", name="Learning").click()
    expect(page.locator(".lead")).to_contain_text("100,000 votes")
    expect(page.locator("ol.moves").first).to_be_visible()
    data = [url for url in asked if "/v1/" in url and "events" not in url]
    assert len(data) <= 7, "one look at each resource, none for each version"
    assert page.locator("#view *").count() < 4000


def test_only_so_much_is_asked_of_the_registry(server, open_page: Callable[..., Page]):
    page = open_page()
    with page.expect_request("**/v1/policies/default?limit=*") as asked:
        page.get_by_role("link", name="Learning").click()
    assert int(asked.value.url.rpartition("=")[2]) <= 200
    answer = server.http("GET", "/v1/policies/default", params={"limit": 1}).json()
    assert len(answer["versions"]) == 1
