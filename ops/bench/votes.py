"""How soon a vote acts: `python -m burnish.ops.bench.votes`.

On a service as users start it, whose weights do not move meanwhile, somebody likes friendly answers and
nothing else. From the moment a vote is accepted, how long until answers are chosen by a reward model that
knows it: for the first from which a reward model is fitted, and for one more when many stand already. Then new prompts are asked,
plainly and with `best_of`: what share of the answers is friendly.
"""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import typer
from burnish.learner.tasks.ember import Exercise, sample, style_of
from burnish.learner.tasks.task import Split
from burnish.learner.update.publishing import LEAST
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import BenchError, run_service

LIKED = "friendly"
NEVER = "1000000"  # seconds between updates
TIMEOUT_S = 120.0
SOON_S = 15.0  # until a vote acts
KNOWN = re.compile(r'^burnish_reward_votes\{policy="default"\} (\S+)$', re.MULTILINE)


def main(
    votes: Annotated[int, typer.Option(help="Votes in all.")] = 512,
    timed: Annotated[int, typer.Option(help="Votes that are timed once most stand.")] = 5,
    asked: Annotated[int, typer.Option(help="New prompts at the end.")] = 200,
    best_of: Annotated[int, typer.Option(help="Candidates for each of their answers.")] = 8,
    out: Annotated[Path, typer.Option(help="Where votes.json goes.")] = FOLDER,
) -> None:
    """Measure how soon votes change answers while the weights stay as they are."""
    with (
        tempfile.TemporaryDirectory() as folder,
        run_service(Path(folder), env={"BURNISH_UPDATE_EVERY": NEVER}) as service,
        httpx.Client(
            base_url=service.url, headers={"Authorization": "Bearer bench"}, timeout=TIMEOUT_S
        ) as client,
    ):
        service.wait_until_idle()
        somebody = Somebody(client)
        somebody.vote_until(LEAST - 1)
        first = somebody.seconds_until_known()
        somebody.vote_until(votes - timed)
        wait_until(client, somebody.votes)
        later = [somebody.seconds_until_known() for _ in range(timed)]
        heldout = random.Random("bench:votes:heldout")
        tasks = [without_tools(heldout, "heldout") for _ in range(asked)]
        plain = somebody.share_liked(tasks)
        chosen = somebody.share_liked(tasks, best_of=best_of)
    figures: dict[str, Any] = {
        "votes": votes,
        "least_votes": LEAST,
        "first_vote_s": round(first, 2),
        "later_votes_s": [round(seconds, 2) for seconds in later],
        "liked_plain": plain,
        "liked_best_of": chosen,
        "best_of": best_of,
    }
    shown = check_goals(figures)
    path = write_results("votes", figures, out, must_show=shown)
    print_figures("How soon a vote acts", {s.line: s.value for s in shown})
    print(path)


class Somebody:
    """One person who votes on answers by their style alone."""

    def __init__(self, client: httpx.Client) -> None:
        self._client, self._rng, self.votes = client, random.Random("bench:votes"), 0

    def vote(self) -> None:
        task = without_tools(self._rng)
        answer = self._ask(task)
        style = style_of(task, answer["choices"][0]["message"]["content"] or "")
        said = {
            "interaction_id": answer["id"],
            "name": "thumbs",
            "value": "up" if style == LIKED else "down",
            # Many people of one mind: nobody is capped.
            "user": f"user-{self.votes % 50}",
        }
        self._client.post("/v1/feedback", json=said).raise_for_status()
        self.votes += 1

    def vote_until(self, votes: int) -> None:
        while self.votes < votes:
            self.vote()

    def seconds_until_known(self) -> float:
        self.vote()
        began = time.monotonic()
        wait_until(self._client, self.votes)
        return time.monotonic() - began

    def share_liked(self, tasks: Sequence[Exercise], **changes: Any) -> float:
        texts = [
            self._ask(task, **changes)["choices"][0]["message"]["content"] or "" for task in tasks
        ]
        liked = [style_of(t, text) == LIKED for t, text in zip(tasks, texts, strict=True)]
        return sum(liked) / len(liked)

    def _ask(self, task: Exercise, **changes: Any) -> dict[str, Any]:
        body = {"model": "default", "messages": list(task.messages), "max_tokens": 96, **changes}
        answer = self._client.post("/v1/chat/completions", json=body)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


def without_tools(rng: random.Random, split: Split = "train") -> Exercise:
    while (task := sample(rng, split=split)).tools:
        pass
    return task


def wait_until(client: httpx.Client, votes: int) -> None:
    """Until answers are chosen by a reward model that knows so many."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        known = KNOWN.search(client.get("/metrics").text)
        if known and float(known[1]) >= votes:
            return
        time.sleep(0.05)
    raise BenchError(f"no reward model that knows {votes} votes within {TIMEOUT_S:.0f} s")


def check_goals(figures: dict[str, Any]) -> list[MustShow]:
    slowest = max(figures["first_vote_s"], *figures["later_votes_s"])
    plain, chosen = figures["liked_plain"], figures["liked_best_of"]
    return [
        MustShow(
            "seconds until a vote acts, the slowest", slowest, f"<= {SOON_S:g}", slowest <= SOON_S
        ),
        MustShow(
            f"share of the liked style by best_of (plain {plain:.2f})",
            chosen,
            "more than plain",
            chosen > plain,
        ),
    ]


if __name__ == "__main__":
    typer.run(main)
