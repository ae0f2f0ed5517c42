"""Headless Chromium as a stopwatch: how long frames are, and when something shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.ops.bench.lib.service import BenchError
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE_MS = 120_000

# Frames from now on: between two of them, and those of which the browser itself says that they took long
# (https://w3c.github.io/long-animation-frames/, over 50 ms; https://w3c.github.io/longtasks/, likewise).
_WATCH = """() => {
  const seen = window.frameTimes = { gaps: [], slow: [], tasks: [] };
  let before = 0;
  const frame = (now) => {
    if (before) seen.gaps.push(now - before);
    before = now;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  const watch = (type, into) => new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) into.push(entry.duration);
  }).observe({ type, buffered: false });
  watch('long-animation-frame', seen.slow);
  watch('longtask', seen.tasks);
}"""

# Milliseconds from the navigation until each selector has something with a size, and the frame after that is there.
_SHOWN = """(selectors) => new Promise((resolve) => {
  const visible = (selector) => [...document.querySelectorAll(selector)].some((node) => node.getClientRects().length);
  const look = () => {
    if (!selectors.every(visible)) return requestAnimationFrame(look);
    requestAnimationFrame(() => resolve(performance.now()));
  };
  look();
})"""


@dataclass(frozen=True)
class Frames:
    """Milliseconds: all times between two frames, and what the browser calls long (over 50)."""

    gaps: list[float]
    slow: list[float]
    tasks: list[float]

    @property
    def longest(self) -> float:
        return max(self.gaps + self.slow)


class Stopwatch:
    """A browser in front of one service. `strays` are the requests that went elsewhere."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser, self.url = browser, url
        self.strays: list[str] = []

    @contextmanager
    def fresh_page(
        self,
        size: tuple[int, int] = (1280, 800),
        *,
        dark: bool = False,
        state: StorageState | None = None,
    ) -> Iterator[Page]:
        """In a profile of its own: nothing is cached; `state` is what another one kept (cookies, local storage)."""
        context: BrowserContext = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            storage_state=state,
        )
        context.set_default_timeout(PATIENCE_MS)
        context.on("request", lambda request: self._note(request.url))
        try:
            yield context.new_page()
        finally:
            context.close()

    def _note(self, url: str) -> None:
        if not url.startswith((f"{self.url}/", "data:", "blob:")):
            self.strays.append(url)

    def seconds_to_open(self, path: str, selectors: list[str]) -> float:
        """From the navigation until all of `selectors` show."""
        with self.fresh_page() as page:
            page.goto(self.url + path, wait_until="commit")
            return page.evaluate(_SHOWN, selectors) / 1000

    def stream(self, question: str) -> tuple[Frames, dict[str, Any]]:
        """Ask in the chat; frames until the answer is whole, and what then stands there."""
        with self.fresh_page() as page:
            page.goto(self.url)
            field = page.get_by_label("Your question")
            field.fill(question)
            page.wait_for_timeout(1000)  # the page has loaded, and rests
            page.evaluate(_WATCH)
            began = page.evaluate("performance.now()")
            field.press("Enter")
            page.locator(".answered.done").wait_for()
            took = page.evaluate("performance.now()") - began
            seen = page.evaluate("window.frameTimes")
            count = "document.querySelectorAll('.answered .text *').length"
            letters = "document.querySelector('.answered .text').textContent.length"
            told = {"seconds": took / 1000, "elements": page.evaluate(count)}
            return Frames(**seen), told | {"letters": page.evaluate(letters)}


@contextmanager
def stopwatch(url: str) -> Iterator[Stopwatch]:
    """Raises BenchError where Chromium is not installed."""
    if not CHROMIUM.exists():
        raise BenchError("Chromium is not installed (Debian: chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield Stopwatch(browser, url)
        browser.close()
