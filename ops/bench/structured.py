"""JSON that ends: `python -m burnish.ops.bench.structured`.

The shipped model answers under two schemas, greedily, within several limits, with and without
`close_at_limit`: how many answers are whole JSON, and what closing does to their content. An answer
that would have ended by itself (those of `verdict` do) must be the same either way; of one that would
have been cut (those of `report`: the model goes on for ever), the figures tell how much of it stands as
it was.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import openai
import typer
from burnish.learner.tasks import ember
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import run_service

LIMITS = (48, 96, 192)
AT_ONCE = 8
FORMS: dict[str, dict[str, Any]] = {
    "report": {
        "title": {"type": "string"},
        "answer": {"type": "string"},
        "steps": {"type": "array", "items": {"type": "string"}},
        "certain": {"type": "boolean"},
    },
    "verdict": {"answer": {"type": "integer"}, "certain": {"type": "boolean"}},
}


@dataclass(frozen=True)
class Answer:
    text: str
    form: str

    @property
    def whole(self) -> bool:
        try:
            return json.loads(self.text).keys() == FORMS[self.form].keys()
        except ValueError:
            return False


async def answers(
    client: openai.AsyncOpenAI, asked: Sequence[list[Any]], form: str, limit: int, close: bool
) -> list[Answer]:
    """One answer to each conversation, in order."""
    slots = asyncio.Semaphore(AT_ONCE)
    schema = {"type": "object", "properties": FORMS[form], "required": [*FORMS[form]]}
    schema |= {"additionalProperties": False}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": form, "schema": schema}}

    async def answer(messages: list[Any]) -> Answer:
        async with slots:
            said = await client.chat.completions.create(
                model="default",
                messages=messages,
                temperature=0,
                max_tokens=limit,
                response_format=wanted,
                extra_body={"close_at_limit": close},
            )
        return Answer(said.choices[0].message.content or "", form)

    return await asyncio.gather(*map(answer, asked))


def shared(a: str, b: str) -> int:
    """Characters that two texts begin with alike."""
    return sum(
        1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
    )


def compare(free: Sequence[Answer], closed: Sequence[Answer]) -> dict[str, float]:
    """Shares of the answers, and of a cut answer's characters that closing kept."""
    ended = [(left, right) for left, right in zip(free, closed, strict=True) if left.whole]
    cut = [(left, right) for left, right in zip(free, closed, strict=True) if not left.whole]
    kept = [shared(a.text, b.text) / max(1, len(a.text)) for a, b in cut]
    return {
        "whole_without": len(ended) / len(free),
        "whole_with": sum(answer.whole for answer in closed) / len(closed),
        "changed_though_it_would_have_ended": sum(a.text != b.text for a, b in ended),
        "of_a_cut_answer_kept": sum(kept) / len(kept) if kept else 1.0,
    }


async def measure(url: str, asked: Sequence[list[Any]]) -> dict[str, dict[str, float]]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="bench") as client:
        figures = {}
        for form, limit in itertools.product(FORMS, LIMITS):
            free = await answers(client, asked, form, limit, close=False)
            closed = await answers(client, asked, form, limit, close=True)
            figures[f"{form}, {limit} tokens"] = compare(free, closed)
    return figures


def main(
    count: Annotated[int, typer.Option(help="How many questions.")] = 100,
    out: Annotated[Path, typer.Option(help="structured.json goes here.")] = FOLDER,
) -> None:
    """Measure what closing JSON at the limit does."""
    rng = random.Random(0)
    asked = [list(ember.sample(rng).messages) for _ in range(count)]
    with tempfile.TemporaryDirectory() as scratch, run_service(Path(scratch)) as service:
        figures = asyncio.run(measure(service.url, asked))
    for name, each in figures.items():
        print_figures(name, each)
    whole = min(each["whole_with"] for each in figures.values())
    changed = sum(each["changed_though_it_would_have_ended"] for each in figures.values())
    must_show = [
        MustShow("whole JSON, the lowest share of any limit", whole, "1", whole == 1),
        MustShow("answers changed that would have ended", changed, "0", changed == 0),
    ]
    results = {"questions": count, "answers": figures}
    print(write_results("structured", results, out, must_show=must_show))


if __name__ == "__main__":
    typer.run(main)
