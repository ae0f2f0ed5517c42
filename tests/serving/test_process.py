"""`python -m burnish.serving` as a process: refusing to start, and draining."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import openai
import pytest
from burnish.serving.__main__ import main
from burnish.serving.auth import KeyStore


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("BURNISH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BURNISH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("BURNISH_PORT", "0")


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    assert main() == 2
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


def test_an_open_address_without_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("BURNISH_HOST", "0.0.0.0")
    monkeypatch.setenv("BURNISH_MODEL", str(tmp_path))
    assert "no API key" in refusal(capsys)
    KeyStore(tmp_path / "data" / "keys.sqlite").create("acme")
    assert "BURNISH_MODEL" in refusal(capsys)  # the next thing that is wrong


def test_a_folder_that_is_no_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("BURNISH_MODEL", str(tmp_path))
    assert "BURNISH_MODEL" in refusal(capsys)


def test_sigterm_drains(tmp_path: Path, tiny_model: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "BURNISH_PORT": str(port), "BURNISH_MODEL": str(tiny_model)}
    env |= {"BURNISH_DATA_DIR": str(tmp_path / "data"), "BURNISH_THREADS": "1"}
    env |= {"BURNISH_REDIS_URL": "redis://127.0.0.1:1/0", "CUDA_VISIBLE_DEVICES": ""}
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen([sys.executable, "-m", "burnish.serving"], env=env, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(process, url, tmp_path / "log")
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=120)
        stream = client.chat.completions.create(
            model="default",
            messages=[{"role": "user", "content": "Hi"}],
            max_tokens=400,
            n=8,
            stream=True,
        )
        next(stream)
        process.send_signal(signal.SIGTERM)
        finished: list[str | None] = []

        def read() -> None:
            finished.extend(chunk.choices[0].finish_reason for chunk in stream)

        reader = threading.Thread(target=read)
        reader.start()
        while reader.is_alive():
            try:
                answer = httpx.get(f"{url}/v1/models", timeout=5)
            except httpx.TransportError:
                break
            assert answer.status_code in (200, 503)
            if answer.status_code == 503:
                assert answer.json()["error"]["code"] == "draining"
                assert answer.headers["retry-after"]
        reader.join(120)
        assert [reason for reason in finished if reason] and None not in finished[-8:]
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()


def wait_until_ready(process: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"not ready: {log.read_text()}")
