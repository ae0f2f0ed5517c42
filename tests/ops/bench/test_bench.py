"""How the benchmarks evaluate their observations. Running them takes a service and minutes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from burnish.ops.bench import chaos, outages, simulate, swaps
from burnish.ops.bench.lib import shapes, sse
from burnish.ops.bench.lib.results import MustShow, write_results
from burnish.ops.bench.lib.service import BenchError, RunningService
from transformers import AutoTokenizer


def stream(key: str, begin: float, *arrivals: float, versions: set[str], failure=None):
    return swaps.Stream(begin, key, versions, list(arrivals), failure)


def test_an_answer_of_two_versions_is_mixed_and_a_wrong_record_is_named() -> None:
    streams = [
        stream("a", 0, 0.1, 0.2, 0.9, versions={"default@2"}),
        stream("b", 0, 0.3, 0.4, versions={"default@2", "default@3"}),
        stream("c", 0, 0.5, 0.6, versions={"default@3"}),
        stream("d", 0, versions=set(), failure="APIError: gone"),
    ]
    calm = [stream("z", 0, 0.0, 0.1, versions={"default@1"})]
    recorded = {"a": "default@2", "c": "default@2"}
    figures = swaps.figures_of(calm, streams, [0.5, 1.5, 1.0], recorded)
    assert figures["mixed"] == 1
    assert figures["failed"] == 1
    assert figures["recorded_otherwise"] == 1
    assert figures["not_recorded"] == 1
    assert figures["longest_gap_seconds"] == pytest.approx(0.7)
    assert figures["streams_at_work_during_a_swap"] == 1
    assert figures["median_promotion_to_first_answer_seconds"] == 1.0
    wrong, gap = swaps.shown(figures)
    assert (wrong.value, wrong.met) == (4, False)
    assert (gap.value, gap.met) == (7.0, False)


def test_chaos_names_what_is_missing_and_what_is_there_twice() -> None:
    acknowledged = chaos.Acknowledged(
        interactions=["i1", "i2"], feedback=["f1", "f2", "f3"], retractions=["f3"]
    )
    found = {
        "interactions": ["i1", "i9"],
        "feedback": ["f1", "f2", "f2", "f3"],
        "retractions": ["f3"],
        "experience": ["f1", "f1"],
    }
    rows = chaos.compare(acknowledged, found)
    assert rows["interactions"] == {"acknowledged": 2, "missing": 1, "twice": 0}
    assert rows["feedback"] == {"acknowledged": 3, "missing": 0, "twice": 1}
    assert rows["retractions"] == {"acknowledged": 1, "missing": 0, "twice": 0}
    assert rows["experience"] == {"acknowledged": 2, "missing": 1, "twice": 1}
    assert chaos.plain("local/f1#2") == "f1"


def test_an_outage_is_judged_by_its_goals() -> None:
    kept = {
        "interactions": outages.lost_and_doubled(["a", "b", "c"], ["a", "a", "x"], excused=1),
        "votes": outages.lost_and_doubled(["f"], ["f"]),
    }
    assert kept["interactions"] == {"acknowledged": 3, "excused": 1, "lost": 1, "doubled": 1}
    rows = [
        {"outage": "disk full", "chat_errors": 0, "recovery_seconds": 5.0},
        {"outage": "redis killed", "chat_errors": 2, "recovery_seconds": None},
    ]
    shown = outages.lines(rows, kept)
    assert [line.met for line in shown] == [True, True, False, False, False, False]
    assert shown[0] == MustShow("disk full: chats that failed", 0, "0", True)


def test_results_carry_what_must_be_shown(tmp_path: Path) -> None:
    path = write_results("x", {"n": 1}, tmp_path, must_show=[MustShow("errors", 0, "0", True)])
    written = json.loads(path.read_text())
    assert written["must_show"] == [{"line": "errors", "value": 0, "goal": "0", "met": True}]
    assert {"commit", "cpu", "cpu_features"} <= set(written["machine"])
    assert "must_show" not in json.loads(write_results("y", {"n": 1}, tmp_path).read_text())


def test_a_simulated_run_is_judged_by_its_promises() -> None:
    results = {
        "traffic": {"failed": 0},
        "evaluation": {"share": 0.61, "skill_difference": -0.02},
        "cadence": {"median_seconds": 45.0},
    }
    held = simulate.check_goals(results)
    assert [name for name, kept in held.items() if not kept] == ["skill within a point"]


def test_results_name_the_machine(tmp_path: Path) -> None:
    path = write_results("swaps", {"failed": 0}, tmp_path)
    assert '"cores"' in path.read_text()
    assert '"failed": 0' in path.read_text()


def test_a_service_that_is_not_there_is_said(tmp_path: Path) -> None:
    service = RunningService("http://127.0.0.1:9", tmp_path, tmp_path / "up.log")
    with pytest.raises(BenchError, match="serving does not run"):
        service.pid("serving")
    with pytest.raises(BenchError, match="not ready"):
        service.wait_until_ready(timeout_s=0.1)


EVENTS = (
    b'data: {"choices":[{"text":"a"}],"usage":null}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":5}}\n\n',
    b"data: [DONE]\n\n",
)


@asynccontextmanager
async def answering(*pieces: bytes) -> AsyncIterator[sse.Client]:
    """A client of a server that answers each request with these bytes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split()[0]))
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = await sse.Client.connect(f"http://127.0.0.1:{port}")
    try:
        yield client
    finally:
        client.close()
        server.close()


def chunked(*events: bytes) -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    return [head, *(b"%x\r\n%s\r\n" % (len(event), event) for event in events), b"0\r\n\r\n"]


async def test_the_client_reads_one_stream_after_the_other() -> None:
    async with answering(*chunked(*EVENTS)) as client:
        for _ in range(2):
            seen = await client.stream("/v1/completions", {"prompt": [3]})
            assert seen.tokens == 5
            assert seen.began < seen.arrivals[0] < seen.arrivals[-1]


async def test_the_client_shows_why_it_was_refused() -> None:
    refusal = [b"HTTP/1.1 400 Bad Request\r\ncontent-length: 11\r\n\r\n", b"not a token"]
    async with answering(*refusal) as client:
        with pytest.raises(BenchError, match="400 Bad Request: not a token"):
            await client.stream("/v1/completions", {})


async def test_a_stream_that_breaks_off_is_no_answer() -> None:
    async with answering(*chunked(*EVENTS[:1])) as client:
        with pytest.raises(BenchError, match="broke off"):
            await client.stream("/v1/completions", {})


def test_every_token_of_a_random_model_spells_something(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shapes.build("S", tmp_path))
    assert len(tokenizer) == shapes.SHAPES["S"]["vocab_size"]
    assert all(map(tokenizer.decode, range(len(tokenizer))))
