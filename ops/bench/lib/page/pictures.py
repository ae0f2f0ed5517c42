"""The pictures of the page in ops/docs: `make pictures`.

A service of its own on the shipped model, whom simulated users teach for some minutes; then each view in headless
Chromium, in light and dark. With `--url` the service is one that runs already, and its history is what it has. The
pictures have few colours, so they are small.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from burnish.ops.bench.lib.page.chromium import PATIENCE_MS, Stopwatch, stopwatch
from burnish.ops.bench.lib.service import run_service
from burnish.serving.client import Memory
from PIL import Image
from playwright.sync_api import Page, StorageState

FOLDER = Path(__file__).parents[3] / "docs"
COLOURS = 128
WIDE, NARROW = (1280, 860), (390, 800)
USER, SESSION = "ana", "night-watch"
DOORS = ("red", "green", "blue", "white")
QUESTION = "What is the code of the blue door?"
QUESTIONS = {"Hello!": "ello", "What is 17 + 26?": "43"}  # and what a right answer has


def main(
    minutes: Annotated[float, typer.Option(help="For which simulated users teach.")] = 15,
    rate: Annotated[float, typer.Option(help="Their chats a second.")] = 6,
    url: Annotated[str | None, typer.Option(help="A service that runs and has a history.")] = None,
    out: Annotated[Path, typer.Option(help="Where the pictures go.")] = FOLDER,
) -> None:
    """Take all pictures anew."""
    if url is not None:
        take(url, out)
        return
    with tempfile.TemporaryDirectory() as folder, run_service(Path(folder)) as service:
        simulate = [sys.executable, "-m", "burnish.ops.cli", "simulate", "--url", service.url]
        simulate += ["--minutes", str(minutes), "--rate", str(rate), "--prompts", "0"]
        simulate += ["--out", f"{folder}/simulated"]
        subprocess.run(simulate, check=True)
        take(service.url, out)


def take(url: str, out: Path) -> None:
    remember(url)
    with stopwatch(url) as browser:
        talked = talk(browser)
        for view, show in VIEWS.items():
            for dark in (False, True):
                with browser.fresh_page(WIDE, dark=dark, state=talked) as page:
                    show(page, url)
                    save(page, out / f"page-{view}{'-dark' if dark else ''}.png")
        with browser.fresh_page(NARROW, dark=True, state=talked) as page:
            show_learning(page, url)
            save(page, out / "page-narrow.png")
        with browser.fresh_page(WIDE, state=talked) as page:
            show_compared(page, url)
            save(page, out / "page-compare.png")


def save(page: Page, path: Path) -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)  # until what fades has faded
    shot = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    few = shot.quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(path, f"{path.stat().st_size:,} bytes", flush=True)


# -- what the pictures show -------------------------------------------------------------------------


def remember(url: str) -> None:
    """A session that was compacted, and facts of which some hold no more; none anew where it is there already."""
    with Memory(url) as memory:
        if memory.records(user=USER):
            return
        steps: list[dict[str, str]] = [{"role": "system", "kind": "task", "content": "Guard the warehouse; know its codes."}]  # fmt: skip
        for number in range(96):
            door = DOORS[number // 12 % len(DOORS)]
            if number % 12 == 0:
                code = f"KP-{4100 + number}"
                steps.append({"role": "user", "content": f"The code of the {door} door is {code}."})
                fact = {"subject": f"{door} door", "predicate": "has the code", "value": code}
                memory.put(user=USER, session_id=SESSION, **fact)
            else:
                seals = f"shelf {number}: {number * 7 % 90} boxes, all seals fine"
                steps.append({"role": "assistant", "content": f"Inspected {seals}."})
        steps.append({"role": "user", "content": QUESTION})
        memory.append(SESSION, steps, user=USER)
        memory.compact(SESSION, 600)


def ask(page: Page, text: str) -> None:
    done = page.locator(".answered.done")
    before = done.count()
    page.get_by_label("Your question").fill(text)
    page.keyboard.press("Enter")
    done.nth(before).wait_for()


def talk(browser: Stopwatch) -> StorageState:
    """A conversation with two thumbs, as the answers deserve; what the browser keeps of it."""
    with browser.fresh_page(WIDE) as page:
        page.goto(browser.url)
        for number, (question, right) in enumerate(QUESTIONS.items()):
            ask(page, question)
            answer = page.locator(".answered.done").nth(number)
            if right in answer.locator(".text").inner_text():
                answer.get_by_role("button", name="Good answer").click()
            else:
                answer.get_by_role("button", name="Bad answer").click()
                answer.get_by_role("button", name="Not correct").click()
        page.get_by_role("button", name="Close this guide").click()
        page.locator(".fate li.done").nth(2 * len(QUESTIONS) - 1).wait_for()
        return page.context.storage_state()


def show_chat(page: Page, url: str) -> None:
    page.goto(url)
    page.locator(".fate li.done").first.wait_for()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")


def show_compared(page: Page, url: str) -> None:
    page.goto(f"{url}/#/chat")
    page.get_by_role("button", name="Compare two versions").click()
    question, right = list(QUESTIONS.items())[-1]
    ask(page, question)
    first, second = (right in text for text in page.locator(".side .text").all_inner_texts())
    better = "No difference" if first == second else "A is better" if first else "B is better"
    page.get_by_role("button", name=better).click()
    page.locator(".pair .fate li.done").first.wait_for()


def show_learning(page: Page, url: str) -> None:
    page.goto(f"{url}/#/learning")
    page.locator(".liked svg").wait_for()
    page.locator(".changes form button").click()
    page.locator(".changes .sides").wait_for()
    page.evaluate("scrollTo(0, 0)")


def show_memory(page: Page, url: str) -> None:
    page.goto(f"{url}/#/memory/session/{SESSION}")
    page.get_by_label("Tokens that fit").fill("600")
    page.get_by_label("Question").fill(QUESTION)
    page.get_by_role("button", name="Show the view").click()
    page.locator(".left").wait_for()
    page.locator(".step .tag").first.wait_for()
    page.evaluate("scrollTo(0, 0)")


def show_operations(page: Page, url: str) -> None:
    page.goto(f"{url}/#/operations")
    page.evaluate(TRAFFIC)
    page.get_by_role("img", name="Tokens written a second").wait_for(timeout=PATIENCE_MS)


# Somebody asks meanwhile; nothing of it is recorded.
TRAFFIC = """() => {
  const body = JSON.stringify({ model: 'default', store: false, messages: [{ role: 'user', content: 'Hello!' }] });
  const headers = { 'Content-Type': 'application/json' };
  const until = Date.now() + 10_000;
  const ask = () => Date.now() < until && fetch('/v1/chat/completions', { method: 'POST', headers, body }).then(ask);
  ask();
}"""
VIEWS: dict[str, Callable[[Page, str], None]] = {
    "chat": show_chat,
    "learning": show_learning,
    "memory": show_memory,
    "operations": show_operations,
}

if __name__ == "__main__":
    typer.run(main)
