"""`make example-agent`: an agent that works 1,000 steps within a context of 2,000 tokens.

It guards a warehouse: it inspects shelves (long, irrelevant tool results), learns new door codes, and
is asked for the current ones. Every step goes into memory over HTTP; the agent answers from the
session's view within the budget and from the facts that memory extracted. A regular expression
stands in for the language model, so that memory alone is measured; a chat call can replace it
without other changes. Without --url it starts a service of its own.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.ops.bench.lib.service import run_service
from burnish.serving.client import Memory

COLOURS = [
    "red",
    "green",
    "blue",
    "white",
    "black",
    "yellow",
    "purple",
    "orange",
    "silver",
    "golden",
]
CODE = r"[A-Z]{2}-\d{4}"


@dataclass(frozen=True)
class WorkItem:
    """Events for the log; for a question, its text and the expected answer."""

    events: list[dict[str, Any]]
    question: str = ""
    expected: str = ""


@dataclass
class Report:
    steps: int = 0
    log_tokens: int = 0
    asked: int = 0
    right: int = 0
    largest_view: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.steps} steps, {self.log_tokens} tokens in the log; {self.right} of {self.asked}"
            f" questions answered right from at most {self.largest_view} tokens;"
            f" {self.seconds:.1f} s"
        )


def warehouse(rng: random.Random) -> Iterator[WorkItem]:
    """An endless stream of work. The first items set every door's code, later ones change some."""
    codes: dict[str, str] = {}
    for number in range(10**9):
        colour = COLOURS[number] if number < len(COLOURS) else rng.choice(COLOURS)
        chance = 0.0 if number < len(COLOURS) else rng.random()
        if chance < 0.1:
            codes[colour] = f"{rng.choice('KLMN')}{rng.choice('PQRS')}-{rng.randrange(1000, 9999)}"
            statement = f"The code of the {colour} door is {codes[colour]}."
            yield WorkItem([{"role": "user", "content": statement}])
        elif chance < 0.25:
            question = f"What is the code of the {colour} door?"
            yield WorkItem([{"role": "user", "content": question}], question, codes[colour])
        else:
            yield WorkItem(_inspection(rng, number))


def _inspection(rng: random.Random, number: int) -> list[dict[str, Any]]:
    call = {"id": f"call-{number}", "type": "function"}
    call["function"] = {"name": "inspect", "arguments": f'{{"shelf": {rng.randrange(900)}}}'}  # type: ignore[assignment]
    lines = [
        f"slot {n}: {rng.randrange(90)} boxes, seal {rng.randrange(10**6)} fine" for n in range(12)
    ]
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "\n".join(lines)},
    ]


def answer(prompt: list[dict[str, Any]], question: str) -> str:
    """The last statement in the prompt about the door that is asked for."""
    door = re.search(r"the (\w+) door", question)
    stated = rf"code of the {door[1] if door else ''} door is ({CODE})"
    found = re.findall(stated, "\n".join(str(message["content"]) for message in prompt))
    return found[-1] if found else "unknown"


def work(memory: Memory, steps: int, budget: int, seed: int = 1) -> Report:
    """Process work items until the log has `steps` steps."""
    session, user = f"watch-{uuid.uuid4().hex[:8]}", f"guard-{uuid.uuid4().hex[:8]}"
    report, start, read = Report(), time.perf_counter(), "0"
    task = {"role": "system", "kind": "task", "content": "Guard the warehouse; know its codes."}
    memory.append(session, [{**task, "id": "task"}], user=user)
    for number, item in enumerate(warehouse(random.Random(seed))):
        # An id per step makes a retry after a lost response safe.
        events = [{**event, "id": f"{number}-{n}"} for n, event in enumerate(item.events)]
        kept = memory.append(session, events, user=user)
        report.steps = int(kept[-1].cursor)
        if item.question:
            read = memory.extract(session, user=user, after=read)["cursor"]
            view = memory.context(session, budget, item.question)
            known = memory.search(item.question, user=user, limit=3)
            facts = "\n".join(record.text for record in reversed(known))
            prompt = [*view.chat, {"role": "system", "content": f"Known to hold now:\n{facts}"}]
            reply = answer(prompt, item.question)
            memory.append(session, [{"role": "assistant", "content": reply, "id": f"a{number}"}])
            report.asked += 1
            report.right += reply == item.expected
            report.largest_view = max(report.largest_view, view.tokens)
        if report.steps >= steps:
            break
    report.log_tokens = memory.stats(session)["tokens"]
    report.seconds = time.perf_counter() - start
    return report


def main() -> None:
    parser = argparse.ArgumentParser(prog="make example-agent", description=__doc__)
    parser.add_argument("--url", help="a running service; without it one is started")
    parser.add_argument("--api-key")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--budget", type=int, default=2000, help="tokens the agent may see")
    given = parser.parse_args()
    if given.url:
        with Memory(given.url, given.api_key) as memory:
            print(work(memory, given.steps, given.budget))
        return
    with tempfile.TemporaryDirectory(prefix="burnish-example-") as folder:
        print("starting a service; the first start takes a while", flush=True)
        with run_service(Path(folder)) as service, Memory(service.url) as memory:
            print(work(memory, given.steps, given.budget))


if __name__ == "__main__":
    main()
