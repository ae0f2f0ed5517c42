"""Mem0 and LangMem on the same worlds, run in a temporary virtual environment of their own.

`python -m burnish.ops.bench.lib.memory_peers REQUEST RESPONSE` reads and writes a JSON file. Their
pinned dependencies conflict with ours, so ops/bench/memory.py installs them separately. Mem0: `infer=False`, a local Qdrant,
our hashing embedder injected; its search results fill the budget, best first. LangMem:
`summarize_messages`, with an extractive summariser, since no language model that can write
summaries runs here; the budget is shared evenly by summary and newest messages.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.learner.compactor import reader
from burnish.learner.compactor.environment import Environment
from burnish.learner.compactor.world import OVERHEAD, WorldQuestion, rough_count
from burnish.learner.compactor.world_generator import make_world
from burnish.memory import HashingEmbedder, Step, Unit
from burnish.memory.compaction import extract_lines
from burnish.ops.bench.lib.memory_talk import SHARES, Kept, averages, environments

ITEMS = 300  # of the latency figures
Ranked = Callable[[WorldQuestion], list[int]]


def mem0(worlds: Sequence[Environment], shares: Sequence[float]) -> dict[str, Any]:
    """Score kept by share of tokens, and latencies of add and search."""
    right: dict[float, list[bool]] = {share: [] for share in shares}
    adds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        memory = _memory(folder)
        for environment in worlds:
            adds += _add(memory, environment)
            for question in environment.world.questions:
                places = _found(memory, environment, question)
                for share in shares:
                    right[share].append(_right(environment, question, places, share))
        search = _search_at(memory, worlds[0])
    return {
        "score": {f"{share:g}": statistics.mean(done) for share, done in right.items()},
        "add_ms": _quantiles(adds),
        "search_ms_at_300": search,
    }


def mem0_talk(worlds: Mapping[str, int]) -> dict[str, Kept]:
    """Evidence kept of talk by kind and share, in so many worlds of each kind."""
    kept: dict[str, Kept] = {}
    for kind, number in worlds.items():
        shares: dict[float, list[float]] = {share: [] for share in SHARES}
        for environment in environments(kind, number):
            with tempfile.TemporaryDirectory() as folder:
                memory = _memory(folder)
                _add(memory, environment)
                for question in environment.world.questions:
                    places = _found(memory, environment, question)
                    for share in SHARES:
                        shown = {step.seq for step in _filled(environment, places, share)}
                        evidence = set(question.evidence)
                        shares[share].append(len(shown & evidence) / len(evidence))
        kept[kind] = {f"{share:g}": averages(found) for share, found in shares.items()}
    return kept


def _memory(folder: str) -> Any:
    os.environ |= {"MEM0_TELEMETRY": "False", "OPENAI_API_KEY": "unused"}
    from mem0 import Memory  # pyright: ignore[reportMissingImports]
    from mem0.utils.factory import EmbedderFactory  # pyright: ignore[reportMissingImports]

    EmbedderFactory.create = staticmethod(lambda *args, **kwargs: _Embedder())
    store = {"path": f"{folder}/qdrant", "embedding_model_dims": 384, "on_disk": True}
    return Memory.from_config(
        {
            "vector_store": {"provider": "qdrant", "config": store},
            "history_db_path": f"{folder}/history.db",
        }
    )


def _add(memory: Any, environment: Environment) -> list[float]:
    """Every step off the floor; the seconds each took."""
    taken = []
    for step in environment.world.steps:
        if not step.pin_reason and step.content:
            began = time.perf_counter()
            memory.add(
                step.content, user_id=_user(environment), infer=False, metadata={"seq": step.seq}
            )
            taken.append(time.perf_counter() - began)
    return taken


def _found(memory: Any, environment: Environment, question: WorldQuestion) -> list[int]:
    """Places of all steps, best first."""
    found = memory.search(
        question.text,
        filters={"user_id": _user(environment)},
        top_k=len(environment.world.steps),
        threshold=0.0,
    )
    return [int(hit["metadata"]["seq"]) for hit in found["results"]]


def _user(environment: Environment) -> str:
    return f"world-{environment.world.seed}"


def _search_at(memory: Any, environment: Environment) -> dict[str, float]:
    """Latency of a top-10 search among ITEMS records."""
    texts = [step.content[:400] for step in environment.world.steps if step.content]
    for i in range(ITEMS):
        memory.add(f"{i}: {texts[i % len(texts)]}", user_id="latency", infer=False)
    taken = []
    for _ in range(5):
        for question in environment.world.questions:
            began = time.perf_counter()
            memory.search(question.text, filters={"user_id": "latency"}, top_k=10)
            taken.append(time.perf_counter() - began)
    return _quantiles(taken)


class _Embedder:
    """Our embedder behind Mem0's interface."""

    def __init__(self) -> None:
        self._ours = HashingEmbedder(384)
        self.config = type("Config", (), {"embedding_dims": 384})()

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        return self._ours.vector(text).tolist()

    def embed_batch(self, texts: Sequence[str], memory_action: str = "add") -> list[list[float]]:
        return [self.embed(text) for text in texts]


def _right(
    environment: Environment, question: WorldQuestion, places: Sequence[int], share: float
) -> bool:
    """Whether the best records that fit the budget answer the question."""
    return _answered(question, _filled(environment, places, share))


def _filled(environment: Environment, places: Sequence[int], share: float) -> list[Step]:
    """The best of `places` that fit a view of so large a share of the log."""
    by_place = {step.seq: step for step in environment.world.steps}
    remaining = int(share * environment.world.tokens) - sum(
        step.tokens for step in environment.floor
    )
    kept: list[Step] = []
    for place in places:
        step = by_place[place]
        if step.tokens <= remaining:
            kept.append(step)
            remaining -= step.tokens
    return kept


def _answered(question: WorldQuestion, steps: Sequence[Step], more: str = "") -> bool:
    shown = [{**s.message(), "cursors": [s.cursor]} for s in sorted(steps, key=lambda s: s.seq)]
    if more:
        shown.insert(0, {"role": "system", "content": more, "cursors": ["0"]})
    return reader.answer(question.text, shown) == question.answer


def langmem(worlds: Sequence[Environment], shares: Sequence[float]) -> dict[str, Any]:
    """Score kept by share."""
    from langchain_core.messages import (  # pyright: ignore[reportMissingImports]
        AIMessage,
        BaseMessage,
        HumanMessage,
    )
    from langchain_core.runnables import RunnableLambda  # pyright: ignore[reportMissingImports]
    from langmem.short_term import summarize_messages  # pyright: ignore[reportMissingImports]

    def count(messages: Any) -> int:
        return sum(rough_count(str(m.content)) + OVERHEAD for m in messages)

    right: dict[float, list[bool]] = {share: [] for share in shares}
    for environment in worlds:
        for share in shares:
            budget = int(share * environment.world.tokens)
            steps = [
                step for step in environment.world.steps if step.content and not step.pin_reason
            ]
            messages: list[BaseMessage] = [
                (HumanMessage if step.role == "user" else AIMessage)(
                    content=step.content, id=str(step.seq)
                )
                for step in steps
            ]
            summary_budget = budget // 2

            def summarise(prompt: Any, limit: int = summary_budget) -> AIMessage:
                messages = prompt.to_messages() if hasattr(prompt, "to_messages") else prompt
                units = [_unit(i, str(m.content)) for i, m in enumerate(messages)]
                text = extract_lines(units, limit, lambda text: rough_count(text))
                # Without the cursor that extraction puts before each line.
                return AIMessage(content="\n".join(x.partition(": ")[2] for x in text.split("\n")))

            result = summarize_messages(
                messages,
                running_summary=None,
                model=RunnableLambda(summarise),
                max_tokens=budget,
                max_tokens_before_summary=max(budget - summary_budget, 1),
                max_summary_tokens=summary_budget,
                token_counter=count,
            )
            by_place = {str(step.seq): step for step in steps}
            kept = [by_place[m.id] for m in result.messages if m.id in by_place]
            summary = "\n".join(str(m.content) for m in result.messages if m.id not in by_place)
            for question in environment.world.questions:
                right[share].append(_answered(question, kept, summary))
    return {"score": {f"{share:g}": statistics.mean(done) for share, done in right.items()}}


def _unit(seq: int, text: str) -> Unit:
    step = Step(id=str(seq), role="user", content=text, seq=seq, tokens=rough_count(text), at=0.0)
    return Unit((step,))


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        name: round(ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000, 3)
        for name, share in (("p50", 0.5), ("p95", 0.95))
    }


def main() -> None:
    """Arguments: a JSON file with seeds, questions and shares; the file for figures or failures."""
    request = json.loads(Path(sys.argv[1]).read_text())
    measured = [
        Environment(make_world(seed, "heldout", questions=request["questions"]))
        for seed in request["seeds"]
    ]
    done: dict[str, Any] = {}
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "mem0": lambda: mem0(measured, request["shares"]),
        "mem0_talk": lambda: mem0_talk(request["talk"]),
        "langmem": lambda: langmem(measured, request["shares"]),
    }
    for name, run in runs.items():
        try:
            done[name] = run()
        except (ImportError, RuntimeError, ValueError, TypeError, OSError) as error:
            done[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
    Path(sys.argv[2]).write_text(json.dumps(done))


if __name__ == "__main__":
    main()
