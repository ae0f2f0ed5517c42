"""A real `burnish up` for tests: its own folder, its own ports, stopped at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
from burnish.ops.settings import free_port
from burnish.ops.supervisor import run_state
from openai import OpenAI

MESSAGES = [{"role": "user", "content": "What is 12 + 30?"}]


class Service:
    """One `burnish up`, which a test may stop and start again on the same folder."""

    def __init__(self, data_dir: Path, model: Path | None = None, *flags: str, **env: str):
        self.data_dir = data_dir
        self.port = free_port()
        self._argv = ["up", "--data-dir", str(data_dir), "--port", str(self.port), *flags]
        if model is not None:
            self._argv += ["--model", str(model)]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("BURNISH_")}
        self._env = {**kept, **env}
        self.output = data_dir.parent / f"{data_dir.name}.out"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=60)

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout_s: float = 600.0) -> None:
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "burnish.ops.cli", *self._argv],
                env=self._env,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            self.wait_until(self.ready, timeout_s, "never became ready")
        except AssertionError:
            self.stop()
            raise

    def ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"`burnish up` ended:\n{self.log_tails()}")
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, sig: signal.Signals = signal.SIGINT) -> int:
        """Send the signal (default: Ctrl-C) and wait; returns the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(sig)
        code = self.process.wait(180)
        self.process = None
        return code

    def children(self) -> dict[str, int]:
        state = run_state.read(self.data_dir)
        return dict(state.children) if state else {}

    def wait_until(self, condition: Callable[[], object], timeout_s: float, message: str):
        """Poll the condition; returns its first true value. AssertionError after the timeout."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if value := condition():
                return value
            time.sleep(0.1)
        raise AssertionError(f"{message} within {timeout_s:.0f} s\n{self.log_tails()}")

    def log_tails(self, lines: int = 15) -> str:
        """The last lines of its output and of each log."""
        texts = []
        for path in (self.output, *sorted(self.data_dir.glob("logs/*.log"))):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            texts.append(f"--- {path.name}\n" + "\n".join(tail))
        return "\n".join(texts)

    def judge(self, interaction_id: str, value: str) -> str:
        body = {"interaction_id": interaction_id, "name": "thumbs", "value": value}
        response = httpx.post(f"{self.url}/v1/feedback", json=body, timeout=10)
        assert response.status_code == 202, response.text
        return response.json()["id"]
