"""A real model as a user meets it: one stream over HTTP, and the memory of the process that serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.ops.bench.lib.service import RunningService, run_service
from burnish.ops.bench.lib.sse import Client, Streamed

NEW = 64
ANSWERS = 4  # of which the first warms up
PROMPT = (
    "The sea, the wind and the ships that cross it: a long story that begins in a small harbour"
)


def measure_stream(model: Path, folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """Tokens a second after the first of a stream alone, and MB of the serving process after it."""
    files = [model] if model.is_file() else list(model.glob("*.safetensors"))
    quiet = {**env, "BURNISH_MODEL": str(model.resolve()), "BURNISH_UPDATE_EVERY": "86400"}
    with run_service(folder, env=quiet) as service:
        service.wait_until_idle()
        seen = [asyncio.run(_answer(service, seed)) for seed in range(ANSWERS)][1:]
        service.wait_until_idle()
        memory = resident_mb(Path(f"/proc/{service.pid('serving')}/status").read_text())
    return {
        "model": model.name,
        "weights_mb": sum(f.stat().st_size for f in files) // 10**6,
        "tokens": [one.tokens for one in seen],
        "tokens_per_s": round(max(map(_rate, seen)), 1),
        "first_token_ms": round(min(1e3 * (one.arrivals[0] - one.began) for one in seen), 1),
        "resident_mb": memory,
    }


async def _answer(service: RunningService, seed: int) -> Streamed:
    client = await Client.connect(service.url)
    try:
        # A completion's first event is its first token; a chat's names the role.
        body = {"prompt": PROMPT, "max_tokens": NEW, "seed": seed}
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        return await client.stream("/v1/completions", {"model": "default", **body, **stream})
    finally:
        client.close()


def _rate(seen: Streamed) -> float:
    """Tokens a second between the first and the last."""
    return (seen.tokens - 1) / (seen.arrivals[-1] - seen.arrivals[0])


def resident_mb(status: str) -> dict[str, float]:
    """Megabytes of /proc/PID/status: all, and what is anonymous or of a file."""
    fields = {"total": "VmRSS", "anonymous": "RssAnon", "file": "RssFile", "shared": "RssShmem"}
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {
        name: round(int(lines[field].split()[0]) * 1024 / 1e6, 1) for name, field in fields.items()
    }
