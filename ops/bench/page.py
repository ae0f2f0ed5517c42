"""How fast the web page is: `make bench-page`.

In headless Chromium, against the service with everything real but the engine, which says one long answer in
markdown: the longest frame while it streams; then how long it takes, in a profile where nothing is cached, from the
navigation until the content of a view shows, over a session of many steps, a history of many versions and many
votes. Wall time: run it on a machine that does nothing else. Left out: how fast the service itself answers
(serving.py, sessions.py).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import typer
from burnish.ops.bench.lib.page import amounts
from burnish.ops.bench.lib.page.chromium import Stopwatch, stopwatch
from burnish.ops.bench.lib.page.service import page_service
from burnish.ops.bench.lib.private_redis import private_redis
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.serving.api.page_files import content_of
from burnish.serving.app import PAGE

FRAME_MS, OPEN_S, ASSET_BYTES = 50, 1.0, 200_000  # at most
TIMEOUT_S = 300.0


def main(
    tokens: Annotated[int, typer.Option(help="Of the answer that streams.")] = 20_000,
    rate: Annotated[float, typer.Option(help="Of its tokens a second.")] = 800,
    steps: Annotated[int, typer.Option(help="Of the session.")] = 10_000,
    versions: Annotated[int, typer.Option(help="In the registry.")] = 1_000,
    votes: Annotated[int, typer.Option(help="By people, all told.")] = 100_000,
    rounds: Annotated[int, typer.Option(help="Streams, and openings of each view.")] = 5,
    registry: Annotated[
        Path | None, typer.Option(help="A folder that keeps the made-up registry for another run.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where page.json goes.")] = FOLDER,
) -> None:
    """Measure frames and openings of the page over large amounts."""
    with tempfile.TemporaryDirectory() as name, private_redis(Path(name)) as redis_url:
        kept, data = registry or Path(name) / "registry", Path(name) / "data"
        for folder in (kept, data):
            folder.mkdir(parents=True, exist_ok=True)
        amounts.fill_registry(kept.resolve(), versions, votes)
        for file in amounts.BESIDE_REGISTRY:
            shutil.copy(kept / file, data)
        amounts.fill_learner(redis_url, versions, votes)
        uri = amounts.registry_uri(kept.resolve())
        with page_service(data, uri, redis_url, tokens, rate) as url:
            with httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
                amounts.fill_votes(client, votes)
                amounts.fill_session(client, steps)
            with stopwatch(url) as watch:
                load = os.getloadavg()[0]
                streams = [streamed(watch) for _ in range(rounds)]
                opened = openings(watch, versions, votes, rounds)
                strays = watch.strays
    figures: dict[str, Any] = {
        "tokens": tokens,
        "tokens_per_second": rate,
        "steps": steps,
        "versions": versions,
        "votes": votes,
        "load_before": load,
        "streams": streams,
        "seconds_to_open": opened,
        "asset_bytes": sum(len(content_of(file)) for file in PAGE.rglob("*.*")),
        "requests_elsewhere": strays,
    }
    shown = check_goals(figures)
    path = write_results("page", figures, out, must_show=shown)
    print_figures("The page", {line.line: line.value for line in shown})
    print(path)


def streamed(watch: Stopwatch) -> dict[str, Any]:
    """One answer: its frames in milliseconds."""
    frames, told = watch.stream("Tell me everything.")
    ordered = sorted(frames.gaps)
    return {
        "frames": len(ordered),
        "longest_ms": round(frames.longest, 1),
        "p99_ms": round(ordered[len(ordered) * 99 // 100], 1),
        "over_50_ms": sum(gap > FRAME_MS for gap in ordered),
        "long_animation_frames": [round(ms) for ms in frames.slow],
        "long_tasks": [round(ms) for ms in frames.tasks],
        **told,
    }


def openings(watch: Stopwatch, versions: int, votes: int, rounds: int) -> dict[str, list[float]]:
    """Seconds until each view shows, round by round."""
    views = {
        "session": (f"/#/memory/session/{amounts.SESSION}", [".rows button.step", ".view-of li"]),
        "history": ("/#/learning", ["ol.moves li", ".liked svg", ".skill svg", ".facts"]),
        "votes behind a version": (f"/#/learning/version/{versions}", [".ids a", ".checks li"]),
        "one vote": (f"/#/learning/vote/vote-{votes - 1:06}", [".fate li"]),
    }  # fmt: skip
    return {
        name: [round(watch.seconds_to_open(path, selectors), 3) for _ in range(rounds)]
        for name, (path, selectors) in views.items()
    }


def check_goals(figures: Mapping[str, Any]) -> list[MustShow]:
    longest = max(stream["longest_ms"] for stream in figures["streams"])
    opened = {
        f"seconds until {name} shows, the slowest of {len(seconds)}": max(seconds)
        for name, seconds in figures["seconds_to_open"].items()
    }
    size, strays = figures["asset_bytes"], len(figures["requests_elsewhere"])
    return [
        MustShow(
            f"longest frame while {figures['tokens']:,} tokens stream, ms",
            longest,
            f"<= {FRAME_MS}",
            longest <= FRAME_MS,
        ),
        *(
            MustShow(line, slowest, f"<= {OPEN_S:g}", slowest <= OPEN_S)
            for line, slowest in opened.items()
        ),
        MustShow("bytes of all assets as sent", size, f"<= {ASSET_BYTES:,}", size <= ASSET_BYTES),
        MustShow("requests to another host", strays, "0", strays == 0),
    ]


if __name__ == "__main__":
    typer.run(main)
