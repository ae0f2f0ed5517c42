"""Hours in small: `python -m burnish.ops.bench.soak`.

For half an hour 32 clients stream chats and vote on them, and four append to memory. After a third of
the time a further client begins to send a prompt of 2 MB every second. Nothing may fail, memory must not
grow once everything is warm, and the gaps between the pieces of the other streams may at most double.
The key-value cache has its full size from the start but becomes resident block by block, so prompts
that have nothing in common fill it first.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import openai
import typer
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import RunningService, run_service
from burnish.ops.bench.lib.steady_load import POLICY, SteadyLoad
from burnish.ops.supervisor import run_state

STREAMS, SESSIONS = 32, 4
MINUTES = 30.0
PROMPT_BYTES = 2_000_000
WARM_SHARE = 1 / 3  # of the time, after which memory must be flat and large prompts arrive
SAMPLE_S = 5.0
BLOCK_TOKENS = 16  # of LocalEngine
FILL = 1.1  # times the cache
FILLING, FILL_WORDS = 4, 40  # prompts at once; words of eight digits in each
GAP_GOAL, GROWTH_GOAL = 2.0, 0.05


def quantile(counts: Counter[int], share: float) -> float:
    """Quantile of counted values; NaN of none."""
    wanted, passed = share * counts.total(), 0
    for value in sorted(counts):
        passed += counts[value]
        if passed >= wanted:
            return float(value)
    return float("nan")


def resident_mb(service: RunningService) -> dict[str, float]:
    """Resident memory of each process of the service with the processes below it, MiB."""
    state = run_state.read(service.data_dir)
    children = state.children if state else {}
    return {name: sum(map(_resident, _tree(pid))) for name, pid in children.items()}


def _tree(pid: int) -> list[int]:
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *(found for child in below for found in _tree(int(child)))]


def _resident(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def fill_cache(service: RunningService) -> None:
    """Prompts that begin differently, until they have had every block of the cache."""
    metrics = httpx.get(f"{service.url}/metrics", timeout=10).text
    wanted = float(re.findall(r'burnish_engine\{what="total_blocks"\} (\S+)', metrics)[0])
    rng, filled = random.Random(0), 0
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="bench") as client:
        while filled < FILL * wanted * BLOCK_TOKENS:
            asked = (client.chat.completions.create(**_long_chat(rng)) for _ in range(FILLING))
            for answer in await asyncio.gather(*asked):
                filled += answer.usage.prompt_tokens if answer.usage else 0


def _long_chat(rng: random.Random) -> dict[str, Any]:
    words = " ".join(f"{rng.getrandbits(32):x}" for _ in range(FILL_WORDS))
    message = {"role": "user", "content": words}
    return {"model": POLICY, "messages": [message], "max_tokens": 1}


async def send_large(load: SteadyLoad, refused: Counter[str]) -> None:
    """A chat with a prompt of PROMPT_BYTES every second; counts what it is answered with."""
    messages: Any = [{"role": "user", "content": "soak " * (PROMPT_BYTES // 5)}]
    while not load.stopping:
        began = time.monotonic()
        try:
            await load.client.chat.completions.create(model=POLICY, messages=messages, max_tokens=8)
            refused["answered"] += 1
        except openai.APIError as error:
            refused[str(error.code or type(error).__name__)] += 1
        await asyncio.sleep(max(0.0, began + 1 - time.monotonic()))


async def soak(service: RunningService, seconds: float) -> dict[str, Any]:
    await fill_cache(service)
    load, large = SteadyLoad(service.url, STREAMS, SESSIONS), Counter()
    samples: list[tuple[float, dict[str, float]]] = []
    began = time.monotonic()
    warm = seconds * WARM_SHARE
    work, extra, without = asyncio.create_task(load.run()), None, Counter()
    while (now := time.monotonic() - began) < seconds:
        samples.append((now, resident_mb(service)))
        if extra is None and now >= warm:
            without, load.gaps = load.gaps, Counter()
            extra = asyncio.create_task(send_large(load, large))
        await asyncio.sleep(SAMPLE_S)
    load.stopping = True
    await work
    if extra is not None:
        await extra
    refused = {name: n for name, n in load.observed.counts.items() if "refused" in name}
    return {
        "seconds": seconds,
        "streams": STREAMS,
        "chats": load.observed.counts["chats"],
        "votes": load.observed.counts["votes"],
        "steps": load.observed.counts["steps"],
        "failed": len(load.observed.chat_errors) + sum(refused.values()),
        "failures": [*load.observed.chat_errors[:20], *refused],
        "large_prompts": dict(large),
        "gap_p99_ms_without_large_prompts": quantile(without, 0.99),
        "gap_p99_ms_with_large_prompts": quantile(load.gaps, 0.99),
        "gap_p50_ms_without_large_prompts": quantile(without, 0.5),
        "gap_p50_ms_with_large_prompts": quantile(load.gaps, 0.5),
        "resident_mb": growth([sample for sample in samples if sample[0] >= warm]),
    }


def growth(samples: list[tuple[float, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Per process: resident memory in the first and the last quarter of the samples, and the growth
    between them as a share."""
    quarter = max(1, len(samples) // 4)
    found = {}
    for name in samples[0][1] if samples else ():
        values = [sample.get(name, 0.0) for _, sample in samples]
        first, last = (statistics.median(part) for part in (values[:quarter], values[-quarter:]))
        found[name] = {"first": first, "last": last, "growth": last / first - 1 if first else 0.0}
    return found


def main(
    minutes: Annotated[float, typer.Option(help="How long.")] = MINUTES,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = FOLDER,
) -> None:
    """Soak a service of its own; exit code 1 if something failed, grew or waited."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        run_service(Path(scratch)) as service,
    ):
        service.wait_until_idle()
        figures = asyncio.run(soak(service, 60 * minutes))
    print_figures("soak", figures)
    serving = figures["resident_mb"].get("serving", {}).get("growth", float("nan"))
    ratio = figures["gap_p99_ms_with_large_prompts"] / figures["gap_p99_ms_without_large_prompts"]
    must_show = [
        MustShow(
            "chats, votes and steps that failed", figures["failed"], "0", figures["failed"] == 0
        ),
        MustShow(
            "growth of serving's memory once warm, share",
            serving,
            f"<= {GROWTH_GOAL}",
            serving <= GROWTH_GOAL,
        ),
        MustShow(
            "p99 gap of the other streams while 2 MB arrive every second, times that without",
            ratio,
            f"<= {GAP_GOAL}",
            ratio <= GAP_GOAL,
        ),
    ]
    print(write_results("soak", figures, out, must_show=must_show))
    raise typer.Exit(0 if all(line.met for line in must_show) else 1)


if __name__ == "__main__":
    typer.run(main)
