"""From `make up` in a clean clone to the first streamed token: `python -m burnish.ops.bench.start`.

The clone gets its own .venv from pip's warm cache, so that the first figure is a new user's waiting
time. `--checkout` measures only starts of a checkout that is installed already.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated

import openai
import typer
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import BenchError, stop
from burnish.ops.settings import free_port

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 900.0


def first_token(checkout: Path, data_dir: Path, log: Path) -> float:
    """Run `make up`, stream an answer, stop; seconds from the command to the first token."""
    port = free_port()
    begin = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(
            ["make", "up", f"ARGS=--port {port} --data-dir {data_dir}"],
            cwd=checkout,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a process group, so that SIGINT reaches make and burnish, as in a terminal
            env={name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
        )
    try:
        client = openai.OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="bench", max_retries=0
        )
        while time.monotonic() - begin < TIMEOUT_S:
            if process.poll() is not None:
                raise BenchError(f"make up ended with {process.returncode}; see {log}")
            try:
                return _stream(client) - begin
            except openai.APIError:
                time.sleep(0.1)
        raise BenchError(f"no token within {TIMEOUT_S:.0f} s; see {log}")
    finally:
        stop(process, group=True)


def _stream(client: openai.OpenAI) -> float:
    """Arrival time of the first piece of text (monotonic seconds)."""
    chunks = client.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": "What is 12 + 30?"}],
        stream=True,
        max_tokens=16,
        temperature=0,
    )
    for chunk in chunks:
        if chunk.choices and chunk.choices[0].delta.content:
            now = time.monotonic()
            for _ in chunks:  # read to the end, so that no aborted stream is measured
                pass
            return now
    raise BenchError("an answer without text")


def main(
    checkout: Annotated[
        Path | None, typer.Option(help="An installed checkout; default: a fresh clone.")
    ] = None,
    later: Annotated[int, typer.Option(help="Starts after the first.")] = 3,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = FOLDER,
) -> None:
    """Measure the first start and later ones; exit code 1 beyond 300 s and 12 s."""
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="burnish-start-") as scratch:
        data_dir, log = Path(scratch) / "data", Path(scratch) / "up.log"
        try:
            installing = checkout is None
            if checkout is None:
                checkout = Path(scratch) / "clone"
                subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], check=True)
            first = first_token(checkout, data_dir, log)  # makes the databases, too
            figures["first_start_seconds" if installing else "new_folder_start_seconds"] = first
            starts = [first_token(checkout, data_dir, log) for _ in range(later)]
        except BenchError:
            print(log.read_text()[-3000:])
            raise
    figures["later_starts_seconds"] = starts
    slowest = figures["slowest_later_start_seconds"] = max(starts, default=0.0)
    print_figures("from make up to the first streamed token", figures)
    must_show = [
        MustShow("later `make up` to the first token, slowest, seconds", slowest, "<= 12", slowest <= 12)
    ]  # fmt: skip
    if installing:
        must_show.append(
            MustShow("`make up` in a clean clone to the first token, seconds", first, "<= 300", first <= 300)
        )  # fmt: skip
    print(write_results("start", figures, out, must_show=must_show))
    raise typer.Exit(0 if all(line.met for line in must_show) else 1)


if __name__ == "__main__":
    typer.run(main)
