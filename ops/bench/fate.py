"""What becomes of a vote, as the page tells it, and how long each stage takes: `python -m burnish.ops.bench.fate`.

For each model a service of its own, `burnish up` with everything real, and a headless Chromium that takes the page's tour:
three questions, three thumbs, "update now"; then eighty people ask and vote on the trial, until the version serves; then
the first question again, the words that changed marked.
The update is small and the gate's bounds are wide open, since a task of each family would show nothing: this measures
the way of a vote, not what is learnt from it (bench-learning, bench-real) nor whom the gate lets through (bench-gate).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import BenchError, run_service
from burnish.ops.bench.lib.vote_journey import (
    CANARY,
    STAGES,
    ask_again,
    ask_and_judge,
    follow,
    others_vote,
    update_now,
)
from playwright.sync_api import Page, sync_playwright

THUMBS = ("down", "up", "down")
ANSWER_TOKENS = 32  # of an answer on the page, and of those that an update draws
GOAL_S = 900
# Updates are far apart, so that the page's own request is what begins one, and versions come by way of a canary.
SETTINGS = {
    "BURNISH_UPDATE_EVERY": "86400",
    "BURNISH_INTAKE_EVERY": "1",
    "BURNISH_MIN_FEEDBACK": str(len(THUMBS)),
    "BURNISH_MIN_EXPERIENCE": str(len(THUMBS)),
    "BURNISH_UPDATE_JOB": "worker",  # a process of its own would be made to stand back on a machine in use
    "BURNISH_UPDATE_SECONDS": "120",
    "BURNISH_UPDATE_STEPS": "2",
    "BURNISH_ANSWERS_PER_STEP": "8",
    "BURNISH_MAX_ANSWER_TOKENS": str(ANSWER_TOKENS),
    "BURNISH_LEARNING_RATE": "0.002",  # or so few steps would change no word
    "BURNISH_GATE_TASKS_PER_FAMILY": "1",
    "BURNISH_GATE_SKILL_MARGIN": "1",
    "BURNISH_GATE_MAX_KL": "50",
    "BURNISH_CANARY_EVERY": "1",
}
LIMITS = """
family_margin: 1
sycophancy: 1
refusals: 1
format: 1
languages: 1
preference: 1
cohort: 1
repetition: 1
opener: 1
opener_step: 1
language: 1
length_step: [0, 100]
entropy_step: 0
diversity_step: 0
"""


@contextmanager
def opened_page() -> Iterator[Page]:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise BenchError("chromium is not installed (Debian: chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1280, "height": 2400})
        browser.close()


def journey(model: str, folder: Path, shots: Path, patience_s: float) -> dict[str, Any]:
    """One vote from thumb to served, on a service with that model; what the page told, and when."""
    files = {"BURNISH_GATE_LIMITS": LIMITS, "BURNISH_CANARY_SETTINGS": CANARY}
    for name, content in files.items():
        (folder / name).write_text(content)
    told = {name: str(folder / name) for name in files}
    env = {**SETTINGS, **told, **({} if model == "ember" else {"BURNISH_MODEL": model})}
    with run_service(folder / "service", env=env) as service, opened_page() as page:
        since = ask_and_judge(page, service.url, THUMBS, patience_s, tokens=ANSWER_TOKENS)
        update_now(page, len(THUMBS))
        asked = time.monotonic() - since
        before = follow(page, since, "canary", patience_s)
        page.locator(".answered").first.screenshot(path=shots / f"fate-{model}-trial.png")
        others_vote(service.url)
        stages = [*before, follow(page, since, "served", patience_s)[-1]]
        compared = ask_again(page)
        page.locator(".tour").screenshot(path=shots / f"fate-{model}.png")
    return {
        "update_asked_for_after_s": asked,
        "stages": [asdict(stage) for stage in stages],
        "compared": asdict(compared),
        "words_marked": sum(len(text.split()) for text in (*compared.gone, *compared.came)),
    }


def goals(model: str, figures: dict[str, Any]) -> list[MustShow]:
    stages = figures["stages"]
    in_order = [stage["name"] for stage in stages] == list(STAGES)
    last, marked = stages[-1]["seconds"], figures["words_marked"]
    shown = [
        MustShow(
            f"{model}: stages of a vote that the page told, in order, saved to served",
            len(stages),
            str(len(STAGES)),
            in_order,
        ),
        MustShow(
            f"{model}: seconds from the thumb to the version that serves",
            round(last, 1),
            f"<= {GOAL_S}",
            last <= GOAL_S,
        ),
    ]
    if model == "ember":  # which says "43." and no more where nothing is left to chance
        return shown
    line = f"{model}: words marked between the answers before and after"
    return [*shown, MustShow(line, marked, ">= 1", marked > 0)]


def main(
    model: Annotated[list[str] | None, typer.Option(help="ember, smollm2; default: both.")] = None,
    patience_s: Annotated[float, typer.Option(help="Until a vote must serve, each.")] = 1800.0,
    out: Annotated[Path, typer.Option(help="fate.json goes here.")] = FOLDER,
    shots: Annotated[Path | None, typer.Option(help="Screenshots go here; else nowhere.")] = None,
) -> None:
    """Follow a vote on the page; exit code 1 where a stage or a changed word is missing."""
    figures, must_show = dict[str, Any](), list[MustShow]()
    for name in model or ["ember", "smollm2"]:
        with tempfile.TemporaryDirectory() as scratch:
            kept = shots or Path(scratch)
            kept.mkdir(parents=True, exist_ok=True)
            figures[name] = journey(name, Path(scratch), kept, patience_s)
        must_show += goals(name, figures[name])
        seconds = {stage["says"]: stage["seconds"] for stage in figures[name]["stages"]}
        print_figures(f"seconds since the thumb, {name}", seconds)
    print(write_results("fate", {"settings": SETTINGS, **figures}, out, must_show=must_show))
    raise typer.Exit(0 if all(shown.met for shown in must_show) else 1)


if __name__ == "__main__":
    typer.run(main)
