"""Promotions under streams: `python -m burnish.ops.bench.swaps`.

Eight clients stream without a pause while the champion alternates between versions. All chunks of an
answer must name one version, the recorded interaction the same one, and no request may fail. The
longest gap between tokens is reported next to that of the same load without promotions, which causes
most of it. The versions are adapters of small random noise.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import openai
import typer
from burnish.learner.database import Database
from burnish.learner.tables import InteractionRow
from burnish.ops import settings as config
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import RunningService, run_service
from burnish.serving.registry import PolicyRegistry, signing_keys
from sqlalchemy import select

POLICY = "default"
VERSIONS = 4
NOISE = 0.02
SWAP_TIMEOUT_S = 30.0
RECORD_TIMEOUT_S = 90.0
GAP_GOAL = 2.0  # times the longest gap of the same load without swaps


@dataclass
class Stream:
    """One streamed answer as its client received it."""

    begin: float
    id: str = ""
    versions: set[str] = field(default_factory=set)
    arrivals: list[float] = field(default_factory=list)
    failure: str | None = None

    @property
    def longest_gap(self) -> float:
        gaps = [b - a for a, b in zip(self.arrivals, self.arrivals[1:], strict=False)]
        return max(gaps, default=0.0)


class Load:
    """Closed-loop clients, until `stopping` is set."""

    def __init__(self, url: str, clients: int, eos: Sequence[int], tokens: int) -> None:
        self._client = openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="bench", max_retries=0, timeout=120
        )
        self._clients = clients
        self._bias = {
            str(token): -100 for token in eos
        }  # no end-of-sequence token: long answers span more swaps
        self._tokens = tokens
        self.streams: list[Stream] = []
        self.newest: str | None = None
        self.stopping = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._clients):
                group.create_task(self._client_loop(number))
        await self._client.close()

    async def _client_loop(self, number: int) -> None:
        count = number
        while not self.stopping:
            self.streams.append(await self._stream(count))
            count += self._clients

    async def _stream(self, seed: int) -> Stream:
        seen = Stream(time.monotonic())
        try:
            chunks = await self._client.chat.completions.create(
                model=POLICY,
                messages=[{"role": "user", "content": f"What is {seed % 90 + 10} + 27?"}],
                max_tokens=self._tokens,
                logit_bias=self._bias,
                seed=seed,
                stream=True,
            )
            async for chunk in chunks:
                seen.id = chunk.id
                seen.arrivals.append(time.monotonic())
                seen.versions.add(chunk.system_fingerprint or "")
                self.newest = chunk.system_fingerprint if len(seen.arrivals) == 1 else self.newest
        except openai.APIError as error:
            seen.failure = f"{type(error).__name__}: {error.message}"
            await asyncio.sleep(0.2)
        return seen


def add_versions(
    registry: PolicyRegistry, model: Path, count: int, noise: float = NOISE
) -> tuple[list[int], list[int]]:
    """Register adapters of noise; returns their versions and the model's end-of-sequence ids."""
    import torch
    from burnish.kernels.loading import load_model
    from burnish.kernels.lora import (
        AdapterWeights,
        LoraSpec,
        default_targets,
        init_adapter,
        save_adapter,
    )

    loaded = load_model(model)
    spec = LoraSpec(targets=default_targets(loaded.model))
    versions = []
    for number in range(count):
        torch.manual_seed(number)
        fresh = init_adapter(loaded.model, spec, seed=number)
        noisy = {name: t + noise * torch.randn_like(t) for name, t in fresh.tensors.items()}
        with tempfile.TemporaryDirectory() as folder:
            save_adapter(AdapterWeights(spec, noisy), Path(folder), str(model))
            registered = registry.register(
                POLICY, Path(folder), parent=1, lineage={"made_by": "bench"}
            )
        versions.append(registered.version)
    return versions, sorted(loaded.eos_token_ids)


async def promote_in_turn(load: Load, url: str, versions: Sequence[int], times: int) -> list[float]:
    """Promote and wait until a new stream answers with the version; seconds per promotion."""
    waits = []
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="bench") as client:
        for number in range(times):
            version = versions[number % len(versions)]
            begin = time.monotonic()
            await client.post(
                f"/policies/{POLICY}/promote", body={"version": version}, cast_to=object
            )
            while load.newest != f"{POLICY}@{version}":
                if time.monotonic() - begin > SWAP_TIMEOUT_S:
                    raise TimeoutError(f"{POLICY}@{version} answers nobody")
                await asyncio.sleep(0.02)
            waits.append(time.monotonic() - begin)
            await asyncio.sleep(1.0)
    return waits


async def drive(
    service: RunningService, versions: Sequence[int], eos: Sequence[int], *, swaps: int, clients: int,
    tokens: int, quiet_s: float,
) -> tuple[list[Stream], list[Stream], list[float]]:  # fmt: skip
    """The same load without and with promotions."""
    calm = Load(service.url, clients, eos, tokens)
    running_calm = asyncio.create_task(calm.run())
    await asyncio.sleep(quiet_s)
    calm.stopping = True
    await running_calm
    load = Load(service.url, clients, eos, tokens)
    running_load = asyncio.create_task(load.run())
    try:
        waits = await promote_in_turn(load, service.url, versions, swaps)
    finally:
        load.stopping = True
        await running_load
    return calm.streams, load.streams, waits


def recorded_versions(service: RunningService, ids: Sequence[str]) -> dict[str, str]:
    """Policy version by interaction id in the experience database, once the intake has caught up."""
    database = Database(service.database_url)
    deadline = time.monotonic() + RECORD_TIMEOUT_S
    wanted, found = set(ids), {}
    while time.monotonic() < deadline and not wanted <= found.keys():
        with database.read() as session:
            rows = session.execute(
                select(InteractionRow.id, InteractionRow.policy, InteractionRow.version)
            )
            found = {key: f"{policy}@{version}" for key, policy, version in rows}
        time.sleep(0.5)
    database.close()
    return {key: found[key] for key in wanted & found.keys()}


def figures_of(
    calm: list[Stream], streams: list[Stream], waits: list[float], recorded: dict[str, str]
) -> dict[str, Any]:
    done = [stream for stream in streams if stream.failure is None]
    waits = sorted(waits)
    return {
        "promotions": len(waits),
        "streams": len(streams),
        "streams_at_work_during_a_swap": sum(_spans_swap(stream, streams) for stream in done),
        "failed": sum(stream.failure is not None for stream in streams),
        "failures": [stream.failure for stream in streams if stream.failure][:10],
        "mixed": sum(len(stream.versions) != 1 for stream in done),
        "recorded": len(recorded),
        "recorded_otherwise": sum(
            recorded[stream.id] not in stream.versions for stream in done if stream.id in recorded
        ),
        "not_recorded": sum(stream.id not in recorded for stream in done),
        "longest_gap_seconds": max(stream.longest_gap for stream in done),
        "longest_gap_without_swaps_seconds": max(s.longest_gap for s in calm if s.failure is None),
        "median_promotion_to_first_answer_seconds": waits[len(waits) // 2],
        "longest_promotion_to_first_answer_seconds": waits[-1],
    }


def shown(figures: dict[str, Any]) -> list[MustShow]:
    """What must be shown of swaps: that nobody notices them."""
    wrong = sum(figures[name] for name in ("failed", "mixed", "recorded_otherwise", "not_recorded"))
    gap = figures["longest_gap_seconds"] / figures["longest_gap_without_swaps_seconds"]
    line = "longest gap between deliveries during swaps, times that without"
    return [
        MustShow("answers failed, mixed or recorded otherwise", wrong, "0", not wrong),
        MustShow(line, round(gap, 2), f"<= {GAP_GOAL}", gap <= GAP_GOAL),
    ]


def _spans_swap(stream: Stream, streams: list[Stream]) -> bool:
    """Whether another version began to answer during this stream."""
    return any(
        other.arrivals
        and stream.arrivals[0] < other.arrivals[0] < stream.arrivals[-1]
        and other.versions != stream.versions
        for other in streams
    )


def main(
    swaps: Annotated[int, typer.Option(help="Promotions.")] = 24,
    clients: Annotated[int, typer.Option(help="Streams at a time.")] = 8,
    tokens: Annotated[int, typer.Option(help="Length of an answer.")] = 160,
    quiet_s: Annotated[float, typer.Option(help="Seconds of load before the first.")] = 15.0,
    model: Annotated[Path | None, typer.Option(help="Model folder (shipped ember).")] = None,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = FOLDER,
) -> None:
    """Swap under load; exit code 1 when a request failed or an answer mixed versions."""
    folder = (model or config.load().model_path).resolve()
    env = {"BURNISH_MODEL": str(folder), "BURNISH_UPDATE_EVERY": "86400"}
    with tempfile.TemporaryDirectory() as scratch, run_service(Path(scratch), env=env) as service:
        registry = PolicyRegistry(service.mlflow_uri, keys=signing_keys(service.data_dir))
        versions, eos = add_versions(registry, folder, VERSIONS)
        calm, streams, waits = asyncio.run(
            drive(service, versions, eos, swaps=swaps, clients=clients, tokens=tokens,
                  quiet_s=quiet_s)
        )  # fmt: skip
        recorded = recorded_versions(
            service, [stream.id for stream in streams if stream.failure is None]
        )
    figures = figures_of(calm, streams, waits, recorded)
    print_figures("swaps under streams", figures)
    must_show = shown(figures)
    print(write_results("swaps", {"model": folder.name, **figures}, out, must_show=must_show))
    sound = not (
        figures["failed"]
        or figures["mixed"]
        or figures["recorded_otherwise"]
        or figures["not_recorded"]
    )
    raise typer.Exit(0 if sound and figures["promotions"] >= swaps else 1)


if __name__ == "__main__":
    typer.run(main)
