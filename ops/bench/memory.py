"""Benchmark of agent memory: `python -m burnish.ops.bench.memory`.

Score kept against tokens kept for every policy and for Mem0 and LangMem; the same at ten times the
training horizon; evidence kept of talk; needles and variables in 128k tokens at 4k; ten re-compactions; a second reader;
an agent that is interrupted; latencies of every policy; a hundred writers under kill -9; tenant isolation. Only held-out words, on which nothing
was tuned. Writes JSON and a plot to the results folder. Exit code 1 where a goal is missed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from burnish.learner.compactor.evaluation import BudgetPoint
from burnish.learner.compactor.world_generator import HORIZON
from burnish.memory import MemoryStore, connect
from burnish.memory.compaction import (
    Bm25Policy,
    ClearToolsPolicy,
    CompactionPolicies,
    CompactionPolicy,
    LearnedPolicy,
    RecentPolicy,
    RubricPolicy,
    SummaryPolicy,
)
from burnish.ops.bench.lib import memory_report as report
from burnish.ops.bench.lib import memory_score as scores
from burnish.ops.bench.lib import memory_speed as speed
from burnish.ops.bench.lib import memory_talk as talk
from burnish.ops.bench.lib.memory_goals import check_goals
from burnish.ops.bench.lib.results import FOLDER, write_results
from burnish.ops.settings import EMBER
from rich.console import Console

SHARES = (0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.4, 0.5)
LONG_SHARES = (0.03, 0.05, 0.07, 0.1, 0.15, 0.2)
PEERS = ("mem0ai", "qdrant-client", "langmem", "numpy", "redis", "safetensors")
console = Console(stderr=True)


def main(
    worlds: Annotated[int, typer.Option(help="Held-out worlds, 12 questions each.")] = 12,
    long_worlds: Annotated[int, typer.Option(help="Of ten times the horizon.")] = 3,
    peers: Annotated[bool, typer.Option(help="Mem0 and LangMem, in an environment apart.")] = True,
    faults: Annotated[bool, typer.Option(help="The writers under kill -9.")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of everything.")] = False,
    out: Annotated[Path, typer.Option(help="Where JSON and picture go.")] = FOLDER,
) -> None:
    """Measure everything the memory promises."""
    if quick:
        worlds, long_worlds, peers, faults = 2, 1, False, False
    began = time.monotonic()
    figures = measure(worlds, long_worlds, peers, faults, quick)
    figures["seconds"] = round(time.monotonic() - began, 1)
    goals = check_goals(figures)
    report.print_tables(figures, goals, SHARES)
    print(write_results("memory", figures, out, must_show=goals))
    print(report.plot(figures, out / "memory.png"))
    raise typer.Exit(0 if all(goal.met for goal in goals) else 1)


def measure(worlds: int, long_worlds: int, peers: bool, faults: bool, quick: bool) -> dict:
    """All figures, by name."""
    from burnish.ops.bench.lib import memory_second as second

    engine = second.load(EMBER)
    tokenizer = engine.tokenizer

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    learned = LearnedPolicy()
    own: list[CompactionPolicy] = [
        RecentPolicy(),
        ClearToolsPolicy(),
        Bm25Policy(),
        SummaryPolicy(),
        RubricPolicy(),
        learned,
    ]
    figures: dict[str, Any] = {}

    log_progress("score kept on held-out worlds")
    environments = scores.worlds(0, worlds, HORIZON, 12)
    found = asyncio.run(scores.curves(own, environments, SHARES, log_progress))
    figures["score"] = _points(found)
    figures["enough"] = scores.least_shares(found)
    log_progress("the same at ten times the horizon")
    environments = scores.worlds(100, long_worlds, scores.LONG, 27)
    few: list[CompactionPolicy] = [Bm25Policy(), learned]
    found = asyncio.run(scores.curves(few, environments, LONG_SHARES, log_progress))
    figures["score_long"] = _points(found)
    figures["enough_long"] = scores.least_shares(found)
    del environments

    log_progress("evidence kept of talk")
    figures["talk"] = asyncio.run(talk.evidence_curves(learned, quick))

    log_progress("needles and variables")
    size, budget = (16_000, 1000) if quick else (128_000, 4000)
    seeds = range(1 if quick else 3)
    figures["ruler"] = asyncio.run(
        scores.ruler([RecentPolicy(), Bm25Policy(), learned], size, budget, count, seeds)
    )
    log_progress("a second reader")
    figures["second_reader"] = second.second_reader(
        engine, [RecentPolicy(), Bm25Policy(), learned], count, 10 if quick else second.QUESTIONS
    )
    with speed.redis_server() as url:
        figures |= asyncio.run(_on_redis(url, count, learned, quick))
    if peers:
        log_progress("Mem0 and LangMem")
        figures["peers"] = _peers(min(worlds, 4))
    if faults:
        from burnish.ops.bench.lib.memory_faults import killed_midway

        log_progress("a hundred writers, Redis and serving killed midway")
        figures["writers"] = killed_midway()
    return figures


async def _on_redis(url: str, count: Any, learned: CompactionPolicy, quick: bool) -> dict[str, Any]:
    from burnish.ops.bench.lib import memory_promises as promises
    from burnish.ops.bench.lib.memory_agent import interrupted_agent
    from burnish.ops.bench.lib.memory_faults import tenants_apart

    client = connect(url)
    try:
        store = MemoryStore(client, count, policies=CompactionPolicies([SummaryPolicy(), learned]))
        log_progress("ten re-compactions")
        seeds = range(1 if quick else 4)
        names = ("recent", "bm25", "summary", "learned")
        again = await scores.recompactions(store, names, seeds)
        log_progress("budgets, rules, scripts")
        kept = {
            "budget": await promises.budget_used(store),
            "rules": await promises.rules_lost(store, 50 if quick else 1000),
            "scripts": await promises.scripts_found(store),
        }
        log_progress("an agent that is interrupted")
        views = (None, *store.compaction.policies.names)
        agent = await interrupted_agent(store, views, 200 if quick else 1000)
        log_progress("latencies")
        sizes = (100, 1000) if quick else speed.SIZES
        sessions = await speed.sessions(store, sizes)
        policies = await speed.policies(store, 1000 if quick else 10_000)
        records = await speed.records(store, 500 if quick else speed.RECORDS)
        log_progress("tenants")
        apart = await tenants_apart(store, 60 if quick else 400)
    finally:
        await client.aclose()
    return {
        "recompacted": again,
        "promises": kept,
        "agent": agent,
        "latency": sessions,
        "latency_policies": policies,
        "records": records,
        "tenants": apart,
    }


def _peers(worlds: int) -> dict[str, Any]:
    """Figures of Mem0 and LangMem, run in a virtual environment of their own; or why there are none."""
    with tempfile.TemporaryDirectory(prefix="burnish-bench-peers-") as scratch:
        folder = Path(scratch)
        python = folder / "venv" / "bin" / "python"
        request, response = folder / "request.json", folder / "response.json"
        wanted = {"seeds": list(range(worlds)), "questions": 12, "shares": SHARES}
        request.write_text(json.dumps({**wanted, "talk": talk.WORLDS}))
        root = Path(__file__).parents[2]
        steps = (
            [sys.executable, "-m", "venv", str(folder / "venv")],
            [str(python), "-m", "pip", "install", "-q", *PEERS],
            [str(python), "-m", "pip", "install", "-q", "--no-deps", "-e", str(root)],
            [str(python), "-m", "burnish.ops.bench.lib.memory_peers", str(request), str(response)],
        )
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, cwd=folder, timeout=1800)
            if done.returncode:
                return {"failed": f"{' '.join(step[1:4])}: {done.stderr[-300:]}"}
        versions = subprocess.run(
            [str(python), "-m", "pip", "list", "--format", "json"], capture_output=True, text=True
        )
        installed = {p["name"]: p["version"] for p in json.loads(versions.stdout)}
        found = json.loads(response.read_text())
        return {**found, "versions": {name: installed.get(name) for name in PEERS[:3]}}


def _points(found: dict[str, list[BudgetPoint]]) -> dict[str, list[dict[str, float]]]:
    return {
        name: [{k: round(v, 4) for k, v in asdict(point).items()} for point in points]
        for name, points in found.items()
    }


def log_progress(text: str) -> None:
    console.print(text, highlight=False)


if __name__ == "__main__":
    typer.run(main)
