"""Our engine as a contestant: whole answers, with scheduling, sampling, detokenisation and streaming."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, LoraSpec, default_targets, init_adapter
from burnish.ops.bench.lib.speed.peers import Peer, Timing
from burnish.serving.engine import LocalEngine, Request, SamplingParams

LORA_RANK = 16
BLOCK = 16  # token slots of a block of the cache
FIXED = 5  # a token that a prompt is continued with


@contextmanager
def burnish(
    folder: Path,
    threads: int,
    *,
    weights: Any,
    rows: int,
    slots: int,
    adapters: int = 0,
    batch: bool = False,
) -> Iterator[Peer]:
    """At most `rows` answers at once over a cache of `slots` tokens. Prompts are distributed over
    `adapters` adapters (0: the base), and streamed or, as the learner does, submitted as one `batch`."""
    torch.set_num_threads(threads)
    model = load_model(folder, dtype="bfloat16", weights=weights)
    engine = LocalEngine(
        model, max_running=rows, block_size=BLOCK, num_blocks=-(-slots // BLOCK), threads=threads
    )
    names: list[str | None] = [None]
    if adapters:
        spec = LoraSpec(LORA_RANK, 2 * LORA_RANK, default_targets(model.outline))
        names = [f"v@{seed}" for seed in range(adapters)]
        for seed, name in enumerate(names):
            fresh = init_adapter(model.outline, spec, seed)
            noise = {n: torch.randn_like(t) * 0.01 for n, t in fresh.tensors.items()}
            engine.set_adapter_weights(str(name), AdapterWeights(spec, noise))

    def run(prompts: np.ndarray, new: int) -> Timing:
        requests = [
            Request(
                id=str(row),
                prompt_ids=tuple(prompt.tolist()),
                params=SamplingParams(max_tokens=new, seed=row, ignore_eos=True),
                adapter=names[row % len(names)],
            )
            for row, prompt in enumerate(prompts)
        ]
        if batch:
            began = time.perf_counter()
            done = engine.generate_batch(requests)
            seconds = time.perf_counter() - began
            assert all(len(answer.token_ids) == new for answer in done)
            return Timing(seconds)
        # Beside streams that write already, a service reads prompts slowly, and the first streams would
        # end before the last begin. So prompts are read first, a token more than fills their blocks: all of
        # these are then kept, the same prompts decode from their last token on, and nothing is read again.
        asked = [replace(r, prompt_ids=(*r.prompt_ids, FIXED)) for r in requests]
        ones = [
            replace(r, id=f"{r.id} read", params=replace(r.params, max_tokens=1)) for r in asked
        ]
        reading = loop.run_until_complete(_streamed(engine, ones))
        if new == 1:
            return reading
        writing = loop.run_until_complete(_streamed(engine, asked))
        # From the first request to the last token: the engine hands over the tokens of several steps at
        # once, and how late somebody looks at the first of them must not count.
        return Timing(
            seconds=reading.seconds + writing.seconds,
            prefill=reading.seconds,
            decoding=writing.seconds,
            decoded=prompts.shape[0] * new,
            firsts=reading.firsts,
            gaps=writing.gaps,
        )

    loop = asyncio.new_event_loop()
    if not batch:
        loop.run_until_complete(engine.start())
    try:
        yield run
    finally:
        loop.run_until_complete(engine.stop())
        loop.close()


async def _streamed(engine: LocalEngine, requests: list[Request]) -> Timing:
    """All at once, each read as it comes."""
    began = time.perf_counter()
    arrivals: list[list[float]] = [[] for _ in requests]

    async def follow(request: Request, into: list[float]) -> None:
        async for _ in engine.generate(request):
            into.append(time.perf_counter() - began)

    await asyncio.gather(*map(follow, requests, arrivals))
    return Timing(
        seconds=max(row[-1] for row in arrivals),
        prefill=max(row[0] for row in arrivals),
        firsts=tuple(row[0] for row in arrivals),
        gaps=tuple(later - earlier for row in arrivals for earlier, later in pairwise(row)),
    )
