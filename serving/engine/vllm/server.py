"""A vLLM server as this process knows it. Left out: what becomes of it (pool.py)."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from burnish.serving.engine.types import ServerStats
from burnish.serving.engine.vllm.client import VllmClient
from burnish.serving.engine.vllm.routing import SeenPrompts


@dataclass(frozen=True)
class Patience:
    """Seconds of waiting for servers."""

    between_looks: float = 2.0
    look: float = 5.0  # for each of its answers
    silence: float = 15.0  # of a server, after which requests that got nothing from it are lost


@dataclass(eq=False)
class Server:
    """One of a pool, whose lock guards it."""

    client: VllmClient
    model: str | None = None  # its name of the base model, once it has answered
    up: bool = False
    problem: str | None = None  # why it is not up, or what it does not do
    silent_since: float | None = None
    adapters: frozenset[str] = frozenset()  # of those that are live
    owed: frozenset[str] = frozenset()  # adapters to unload as soon as it answers
    running: int = 0
    elsewhere: int = 0  # requests of other processes, at the last look
    turn: int = 0
    requests: int = 0
    tokens: int = 0
    failures: int = 0
    seen: SeenPrompts = field(default_factory=SeenPrompts)
    adapting: threading.Lock = field(default_factory=threading.Lock)  # one change at a time
    look_now: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        return self.client.address

    @property
    def load(self) -> int:
        return self.running + self.elsewhere

    def stats(self) -> ServerStats:
        return ServerStats(
            address=self.address,
            problem=self.problem,
            up=int(self.up),
            running=self.running,
            requests_total=self.requests,
            tokens_total=self.tokens,
            failures_total=self.failures,
        )
