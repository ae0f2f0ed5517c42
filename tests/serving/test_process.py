"""`python -m burnish.serving` as a process: refusing to start, and draining."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx2 as httpx
import openai
import pytest
from burnish.feedback.spool.spool import Spool
from burnish.serving import __main__ as entry
from burnish.serving import server
from burnish.serving.api.auth import KeyStore
from burnish.serving.engine import StubEngine
from burnish.serving.registry import PolicyRegistry, StubRegistry
from burnish.serving.settings import ServingSettings

from tests.waiting import eventually


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("BURNISH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BURNISH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("BURNISH_PORT", "0")


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    assert entry.main() == 2
    told = capsys.readouterr().err.splitlines()
    assert len([line for line in told if line.startswith("burnish: ")]) == 1
    return told[-1]


def test_a_bad_setting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("BURNISH_PORT", "eighty")
    assert "BURNISH_PORT" in refusal(capsys)


def test_a_port_in_use(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("BURNISH_PORT", str(taken.getsockname()[1]))
        assert "in use" in refusal(capsys)


def test_a_standby_ends_with_whoever_started_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "burnish.serving", "--standby"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_an_open_address_without_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("BURNISH_HOST", "0.0.0.0")
    monkeypatch.setenv("BURNISH_MODEL", str(tmp_path))
    assert "no API key" in refusal(capsys)
    KeyStore(tmp_path / "data" / "keys.sqlite").create("acme")
    assert "BURNISH_MODEL" in refusal(capsys)  # the next thing that is wrong


def test_a_replica_without_the_secret_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BURNISH_FLEET", "true")
    assert "BURNISH_SECRET" in refusal(capsys)


def test_a_folder_that_is_no_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("BURNISH_MODEL", str(tmp_path))
    assert "BURNISH_MODEL" in refusal(capsys)


def test_a_vllm_server_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    monkeypatch.setenv("BURNISH_MODEL", str(tiny_model))
    monkeypatch.setenv("BURNISH_ENGINE_URL", "http://127.0.0.1:1")
    assert "BURNISH_ENGINE_URL=http://127.0.0.1:1: no vLLM server answers" in refusal(capsys)


def test_a_model_that_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    monkeypatch.setenv("BURNISH_MODEL", str(tiny_model))
    monkeypatch.setattr("burnish.kernels.loading.available_bytes", lambda: 1000)
    assert "GiB are free" in refusal(capsys)


def test_a_folder_that_another_process_serves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(server, "load_engine", lambda _: StubEngine("Hello there."))
    other = Spool(tmp_path / "data" / "spool.db")
    assert "in use by another process" in refusal(capsys)
    other.close()


def test_another_base_model_under_old_data(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    registry: PolicyRegistry,
    registry_uri: str,
) -> None:
    registry.ensure_base("default", "other", "f" * 64)
    monkeypatch.setenv("BURNISH_MLFLOW_URI", registry_uri)
    monkeypatch.setenv("BURNISH_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setattr(server, "load_engine", lambda _: StubEngine("Hello there."))
    assert "stands on another base model" in refusal(capsys)


FORWARDER_THAT_FAILS = """
import sys
from functools import partial
from pathlib import Path

from burnish.feedback.spool.forwarder import Forwarder
from burnish.serving import __main__ as entry
from burnish.serving import server
from burnish.serving.engine import StubEngine
from burnish.serving.registry import StubRegistry

def pause(self, failures):
    if Path(sys.argv[1]).exists():
        raise SystemExit("injected")
    return 0.02

Forwarder._pause = pause
server.Service.build = partial(server.Service.build, registry=StubRegistry())
server.load_engine = lambda _: StubEngine(lambda _: "x" * 100, pace_s=0.02)
sys.exit(entry.main())
"""


def test_a_failed_part_ends_the_process_after_its_answers(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "BURNISH_PORT": str(port),
        "BURNISH_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    sentinel = tmp_path / "fail"
    with (
        subprocess.Popen(
            [sys.executable, "-c", FORWARDER_THAT_FAILS, str(sentinel)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        try:

            def ready() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return http.get("/readyz").status_code == 200
                return False

            eventually(ready)
            client = openai.OpenAI(
                base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0
            )
            stream = client.chat.completions.create(
                model="default", messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            said = next(iter(stream)).choices[0].delta.content or ""
            sentinel.touch()
            eventually(lambda: http.get("/healthz").status_code == 503)
            refused = http.get("/readyz")
            assert refused.status_code == 503
            assert any("forwarder" in problem for problem in refused.json()["problems"])
            said += "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
            assert said == "x" * 100
            assert process.wait(30) == 1
            assert process.stderr is not None
            assert "burnish: forwarder has failed" in process.stderr.read()
        finally:
            process.kill()


async def test_sigterm_drains(settings: ServingSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: the signal is real, the start of a second interpreter would test nothing."""
    monkeypatch.setattr(
        server.Service, "build", partial(server.Service.build, registry=StubRegistry())
    )
    free = settings.model_copy(update={"port": 0})
    listening = entry.bind(free)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    engine = StubEngine(lambda _: "x" * 200, pace_s=0.01)
    serving = asyncio.create_task(server.serve(free, engine, listening))
    async with httpx.AsyncClient(base_url=url) as http:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await http.get("/readyz")).status_code == 200:
                    break
            await asyncio.sleep(0.02)
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
        stream = await client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        await anext(stream)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            while (refused := await http.get("/v1/models")).status_code != 503:
                pass
        assert refused.json()["error"]["code"] == "draining"
        assert refused.headers["retry-after"]
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/readyz")).json()["status"] == "not ready"
        rest = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in rest) == "x" * 200
        assert rest[-1].choices[0].finish_reason == "stop"
        await client.close()
    await asyncio.wait_for(serving, 20)
    left = Spool(settings.data_dir / "spool.db")  # let go of, and the answer is in it
    assert left.waiting() == 1
    left.close()


async def test_a_balancer_may_turn_away_before_requests_are_refused(
    settings: ServingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        server.Service, "build", partial(server.Service.build, registry=StubRegistry())
    )
    waits = settings.model_copy(update={"port": 0, "drain_wait_s": 600.0})
    listening = entry.bind(waits)
    serving = asyncio.create_task(server.serve(waits, StubEngine("Hi"), listening))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as http:
        async with asyncio.timeout(60):
            while (await http.get("/readyz")).status_code != 200:
                pass
        assert "connection" not in (await http.get("/v1/models")).headers
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            while (await http.get("/readyz")).status_code != 503:
                pass
        taken = await http.get("/v1/models")
        assert (taken.status_code, taken.headers["connection"]) == (200, "close")
        os.kill(os.getpid(), signal.SIGTERM)  # a second one ends it at once
    await asyncio.wait_for(serving, 20)


async def test_small_writes_are_sent_at_once(settings: ServingSettings) -> None:
    """Or each stream would wait for the client to acknowledge its headers."""
    accepted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        option = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        accepted.set_result(bool(option))
        writer.close()

    listening = entry.bind(settings.model_copy(update={"port": 0}))
    async with await asyncio.start_server(note, sock=listening):
        _, writer = await asyncio.open_connection(*listening.getsockname())
        assert await asyncio.wait_for(accepted, 10)
        writer.close()


def test_the_port_listens_before_anything_heavy_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that arrives during a restart waits for it and is not refused."""
    program = (
        "import sys; from burnish.serving import __main__ as entry\n"
        "entry.bind(entry.read_settings())\n"
        "print(sorted({'torch', 'transformers', 'fastapi', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
