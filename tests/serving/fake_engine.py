"""An engine without a model: it answers what a script says, one byte a token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from burnish.serving.engine import (
    Delta,
    EngineStats,
    EngineStopped,
    PromptTooLong,
    QueueFull,
    Request,
    UnknownAdapter,
)


class FakeTokenizer:
    """Bytes are tokens; the template is one line per message."""

    all_special_tokens = ("<|end|>",)

    def __len__(self) -> int:
        return 256

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int], **_: Any) -> str:
        return bytes(ids).decode("utf-8", "replace")

    def convert_ids_to_tokens(self, token: int) -> str | None:
        return None  # `decode` then says what it is

    def apply_chat_template(
        self, messages: list[dict], tools: list | None, enable_thinking: bool, **_: Any
    ) -> str:
        lines = [f"{m['role']}: {m['content']}<|end|>" for m in messages]
        if tools:
            lines.insert(0, f"tools: {[tool['function']['name'] for tool in tools]}")
        return "\n".join([*lines, "assistant: " + ("<think>" if enable_thinking else "")])


class FakeEngine:
    """`script` gives the answer's text for a request; `pace` seconds go by between tokens."""

    model_sha256 = "0" * 64
    max_model_len = 2000

    def __init__(
        self, script: Callable[[Request], str] = lambda _: "Hello there.", pace: float = 0
    ):
        self.tokenizer = FakeTokenizer()
        self.script = script
        self.pace = pace
        self.capacity = 64
        self.running: dict[str, Request] = {}
        self.seen: list[Request] = []
        self.loaded: dict[str, Path] = {}
        self.stopped = False

    async def generate(self, request: Request) -> AsyncIterator[Delta]:
        if self.stopped:
            raise EngineStopped("stopped")
        if len(self.running) >= self.capacity:
            raise QueueFull(f"{self.capacity} requests wait")
        if len(request.prompt_ids) >= self.max_model_len:
            raise PromptTooLong("too long")
        if request.adapter is not None and request.adapter not in self.loaded:
            raise UnknownAdapter(request.adapter)
        self.seen.append(request)
        self.running[request.id] = request
        try:
            text = self.script(request)
            wanted = list(text.encode())[: request.params.max_tokens]
            finish = "stop" if len(wanted) == len(text.encode()) else "length"
            for place, token in enumerate(wanted):
                await asyncio.sleep(self.pace)
                if self.stopped:
                    finish = "cancelled"
                last = self.stopped or place == len(wanted) - 1
                top = (tuple((token, -0.5) for _ in range(request.params.logprobs)),)
                ended = finish if last else None
                yield Delta(chr(token), (token,), (-0.5,), (-0.25,), top, ended)
                if last:
                    return
        finally:
            self.running.pop(request.id, None)

    def load_adapter(self, name: str, folder: Path) -> None:
        if (folder / "adapter_model.safetensors").read_bytes() == b"broken":
            raise ValueError("not an adapter")
        self.loaded[name] = folder

    def unload_adapter(self, name: str) -> None:
        del self.loaded[name]

    @property
    def adapters(self) -> tuple[str, ...]:
        return tuple(self.loaded)

    def stats(self) -> EngineStats:
        running = len(self.running)
        return EngineStats(0, running, 10, 10, 0, 0, 0, len(self.seen), 0, 0, 0, self.adapters)

    async def start(self) -> None:
        self.stopped = False

    async def stop(self, drain: bool = True) -> None:
        self.stopped = not drain
