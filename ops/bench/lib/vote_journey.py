"""A vote followed on the page, from the thumb to the version that learnt from it, by the tour that the page itself offers:
three questions, three thumbs, "update now", and the first question again with the words that changed marked.

What counts is text on the page; of the API only the other people of a canary make use. Left out: service and browser.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx2 as httpx
from playwright.sync_api import Locator, Page

LOOK_MS = 250
# What the page says when a stage is reached, in order.
STAGES = {
    "saved": r"Saved",
    "joined": r"Joined",
    "weighed": r"Weighed [\d.,]+",
    "used": r"Used in update @\d+",
    "gate": r"Passed the gate",
    "canary": r"On trial",
    "served": r"Served in @\d+",
}
OTHERS = 80  # so many that, of a canary on a half of all, each arm has twenty voters but once in 500,000 times
CANARY = (
    '"*": {shares: [0.5], users: 20, undecided: gate}\n'  # its settings, which that many decide
)


class JourneyError(RuntimeError):
    """The page did not show in time what it should; the text says what it showed."""


@dataclass(frozen=True)
class Stage:
    """`seconds` since the thumb was pressed, when the page first said `says`."""

    name: str
    says: str
    seconds: float


@dataclass(frozen=True)
class Compared:
    """One prompt, answered by two versions; `gone` and `came` are the words that the page marks."""

    prompt: str
    versions: tuple[str, ...]
    gone: tuple[str, ...]
    came: tuple[str, ...]


def ask_and_judge(
    page: Page, url: str, thumbs: Sequence[str], patience_s: float, tokens: int | None = None
) -> float:
    """Ask the tour's questions and judge each answer "up" or "down"; when the first was, by `time.monotonic`.
    `tokens`: what an answer may have at most, as set on the page."""
    page.set_default_timeout(1000 * patience_s)
    page.goto(url)
    if tokens is not None:
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Tokens at most").fill(str(tokens))
        page.get_by_role("button", name="Done").click()
    page.locator(".tour summary").click()
    for number in range(len(thumbs)):
        page.get_by_role("button", name=re.compile("^Ask: ")).click()
        page.locator(".answered.done").nth(number).wait_for()
    first = 0.0
    for number, value in enumerate(thumbs):
        answer = page.locator(".answered").nth(number)
        answer.get_by_role("button", name="Good answer" if value == "up" else "Bad answer").click()
        first = first or time.monotonic()
        answer.get_by_text("Thank you, saved.").wait_for()
    return first


def follow(page: Page, since: float, until: str, patience_s: float) -> list[Stage]:
    """The stages of the first vote as the page comes to tell them, until that one. Raises JourneyError."""
    line, seen, deadline = page.locator(".fate").first, dict[str, Stage](), since + patience_s
    while until not in seen:
        told = [text.removesuffix(" (done)") for text in _texts(line.locator("li.done"))]
        for name, says in STAGES.items():
            if name not in seen and (found := [t for t in told if re.fullmatch(says, t)]):
                seen[name] = Stage(name, found[0], time.monotonic() - since)
        if time.monotonic() > deadline:
            raise JourneyError(f"after {patience_s:.0f} s the page says {_texts(line)}")
        page.wait_for_timeout(LOOK_MS)
    return list(seen.values())


def update_now(page: Page, votes: int) -> None:
    """Ask for an update when so many votes have met their answers: all shall be in it."""
    page.locator(".fate li.done", has_text="Joined").nth(votes - 1).wait_for()
    page.get_by_role("button", name="Update now").click()


def others_vote(url: str, people: int = OTHERS) -> None:
    """The people on whom a version is tried: each asks once, and likes the answer."""
    with httpx.Client(base_url=url, timeout=120) as client:
        for number in range(people):
            asked = {"model": "default", "user": f"person-{number}", "max_tokens": 8}
            messages = [{"role": "user", "content": "What is 2 + 3?"}]
            answer = client.post("/v1/chat/completions", json={**asked, "messages": messages})
            answer.raise_for_status()
            vote = {"interaction_id": answer.json()["id"], "user": asked["user"]}
            client.post(
                "/v1/feedback", json={**vote, "name": "thumbs", "value": "up"}
            ).raise_for_status()


def ask_again(page: Page) -> Compared:
    """The tour's last step: the first question again, by the version before and by the new one."""
    page.get_by_role("button", name="Ask again").click()
    page.locator(".tour .words").nth(1).wait_for()
    marks = {kind: _texts(page.locator(f".tour {kind}")) for kind in ("del", "ins")}
    return Compared(
        prompt=page.locator(".tour strong").inner_text(),
        versions=tuple(page.locator(".tour .badge").all_inner_texts()),
        gone=tuple(text.removeprefix("taken away: ") for text in marks["del"]),
        came=tuple(text.removeprefix("new: ") for text in marks["ins"]),
    )


def _texts(found: Locator) -> list[str]:
    return [" ".join(text.split()) for text in found.all_inner_texts()]
