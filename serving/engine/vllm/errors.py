"""What can go wrong with vLLM servers.

EngineError
├── ServerLost              the server failed or went away; another may answer
│   ├── ServerStopped       it says that it is stopping (EngineStopped)
│   └── Unreachable         nothing that is a vLLM server answers at the address (ValueError)
└── BadAdapter (ValueError) the server does not accept the adapter
"""

from __future__ import annotations

from burnish.serving.engine.types import EngineError, EngineStopped


class ServerLost(EngineError):
    """The server failed or went away before its answer was whole; another server may give it.

    `taken`: whether it may have begun on the request.
    """

    def __init__(self, found: str, *, taken: bool = True) -> None:
        super().__init__(found)
        self.found, self.taken = found, taken


class ServerStopped(ServerLost, EngineStopped):
    """The server says that it takes no requests."""


class Unreachable(ServerLost, ValueError):
    """No vLLM server answers at the address; `found` says what was met instead."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.args = (f"no vLLM server answers: {found}",)


class BadAdapter(EngineError, ValueError):
    """The server does not accept the adapter."""
