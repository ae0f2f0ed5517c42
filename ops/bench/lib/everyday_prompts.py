"""Everyday prompts in ten topics, written for the benchmarks: 300 to learn from and 100 held out.

One file for each topic in everyday/. They are asked as a product would ask them, under its system prompt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent / "everyday"
SYSTEM = "You are a helpful assistant. Answer in a few sentences."

Split = Literal["train", "heldout"]


@dataclass(frozen=True)
class Prompt:
    """A chat of one message, as `task_prompt` takes it."""

    family: str  # its topic
    text: str
    tools: None = None

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": self.text}]


def load_prompts(split: Split) -> list[Prompt]:
    """The topics in turn, so that the first ones are spread evenly over them."""
    by_topic = []
    for path in sorted(FOLDER.glob("*.jsonl")):
        lines = map(json.loads, path.read_text().splitlines())
        by_topic.append([Prompt(path.stem, x["prompt"]) for x in lines if x["split"] == split])
    return [prompt for in_turn in zip(*by_topic, strict=True) for prompt in in_turn]
