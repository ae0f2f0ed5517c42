"""Ten thousand requests drawn from the API's description: `python -m burnish.ops.bench.fuzz`.

Against a live service with its own model, memory and learner. No answer may be a server's error or
show a stack trace, none that generates nothing may take over five seconds, and the service must answer
a chat afterwards. Left out: known attacks (attacks.py).
"""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Annotated

import httpx2 as httpx
import typer
from burnish.ops.bench.lib.openapi_fuzz import fuzz, operations
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import run_service

REQUESTS = 10_000
ANSWER_GOAL_S, CHAT_GOAL_S = 5.0, 2.0
WAYS = 2  # of drawing: what the description allows, and what it does not
SPARE = 1.3  # some operations take so little that there is not more to draw
QUESTION = {
    "model": "default",
    "messages": [{"role": "user", "content": "What is 12 + 30?"}],
    "max_tokens": 32,
}


def main(
    requests: Annotated[int, typer.Option(help="About how many.")] = REQUESTS,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = FOLDER,
) -> None:
    """Fuzz a service of its own; exit code 1 where an answer was wrong or late."""
    with tempfile.TemporaryDirectory() as scratch, run_service(Path(scratch)) as service:
        service.wait_until_idle()
        told = httpx.get(f"{service.url}/openapi.json", timeout=10).json()
        calls = math.ceil(SPARE * requests / WAYS / len(list(operations(told))))
        drawn = fuzz(service.url, told, calls)
        began = time.monotonic()
        answer = httpx.post(f"{service.url}/v1/chat/completions", json=QUESTION, timeout=60)
        chat_s = time.monotonic() - began
    for line in drawn.wrong:
        print(line)
    figures = {
        "requests": drawn.requests,
        "operations": len(list(operations(told))),
        "statuses": {str(status): count for status, count in sorted(drawn.statuses.items())},
        "wrong": len(drawn.wrong),
        "slowest_answer_seconds": drawn.slowest_s,
        "slowest": drawn.slowest,
        "chat_afterwards_status": answer.status_code,
        "chat_afterwards_seconds": chat_s,
    }
    print_figures("requests drawn from the API's description", figures)
    well = answer.status_code == 200 and chat_s <= CHAT_GOAL_S
    must_show = [
        MustShow(
            "requests drawn from the whole description",
            drawn.requests,
            f">= {requests}",
            drawn.requests >= requests,
        ),
        MustShow(
            "server's errors, stack traces, untold statuses",
            len(drawn.wrong),
            "0",
            not drawn.wrong,
        ),
        MustShow(
            "slowest answer that generates nothing, seconds",
            drawn.slowest_s,
            f"<= {ANSWER_GOAL_S:.0f}",
            drawn.slowest_s <= ANSWER_GOAL_S,
        ),
        MustShow("a chat afterwards, seconds", chat_s, f"<= {CHAT_GOAL_S:.0f}", well),
    ]
    print(write_results("fuzz", figures, out, must_show=must_show))
    raise typer.Exit(0 if all(line.met for line in must_show) else 1)


if __name__ == "__main__":
    typer.run(main)
