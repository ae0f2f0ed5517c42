"""Hours in small: `python -m burnish.ops.bench.soak`.

For half an hour 32 clients stream chats and vote on them, and four append to memory. After a third of
the time a further client begins to send a prompt of 2 MB every second. Nothing may fail, memory must not
grow once everything is warm, and the gaps between the pieces of the other streams may at most double.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import openai
import typer
from burnish.learner import tasks
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import RunningService, run_service
from burnish.ops.bench.lib.steady_load import POLICY, BrokenOff, SteadyLoad
from burnish.ops.supervisor import run_state

STREAMS, SESSIONS = 32, 4
MINUTES = 30.0
PROMPT_BYTES = 2_000_000
WARM_SHARE = 1 / 3  # of the time, after which memory must be flat and large prompts arrive
SAMPLE_S = 5.0
GAP_GOAL, GROWTH_GOAL = 2.0, 0.05


class TimedLoad(SteadyLoad):
    """A steady load that counts the gaps between the pieces of its streams, in milliseconds."""

    def __init__(self, url: str, chats: int, sessions: int) -> None:
        super().__init__(url, chats, sessions)
        self.gaps: Counter[int] = Counter()

    async def chat(self, user: str) -> str:
        messages: Any = list(tasks.sample(self._rng, family="arithmetic").messages)
        stream = await self.client.chat.completions.create(
            model=POLICY, messages=messages, user=user, max_tokens=48, stream=True
        )
        interaction, finished, last = "", False, None
        async for chunk in stream:
            now = time.monotonic()
            if last is not None:
                self.gaps[round(1000 * (now - last))] += 1
            interaction, last = chunk.id, now
            finished |= any(choice.finish_reason for choice in chunk.choices)
        if not finished:
            raise BrokenOff(f"{interaction} ended without a finish reason")
        return interaction


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


async def send_large(load: TimedLoad, refused: Counter[str]) -> None:
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
    load, large = TimedLoad(service.url, STREAMS, SESSIONS), Counter()
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
