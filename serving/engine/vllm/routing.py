"""Which of several servers gets a request: the least loaded one, or one that has seen its beginning.

Load is the number of requests a server has. A server that answered a prompt holds its keys and values,
and an answer to what begins alike costs it less: being sent the whole prompt again is worth
`SLACK` requests to it, and half of those that the least loaded server has; a part of it, that part.
So conversations stay where they are, many of one system prompt spread once they are a load,
and no server is preferred that is notably busier.

What a server holds is remembered here and not asked for, as llm-d's scheduler and SGLang's router do:
hashes of blocks, each with all before it, the oldest forgotten first. A wrong guess costs time and
nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

BLOCK = 64  # tokens; vLLM caches blocks of 16, but fewer than these are not worth a detour
REMEMBERED = 8192  # blocks of one server: half a million tokens
SLACK = 4  # requests


@dataclass(frozen=True)
class Prompt:
    """A prompt as far as routing needs it."""

    tokens: int
    blocks: tuple[int, ...]  # each the hash of one block and all before it

    @classmethod
    def of(cls, token_ids: Sequence[int], adapter: str | None) -> Prompt:
        """`adapter` is part of it: another version's keys and values are others."""
        blocks: list[int] = []
        key = hash(adapter)
        for end in range(BLOCK, len(token_ids) + 1, BLOCK):
            key = hash((key, *token_ids[end - BLOCK : end]))
            blocks.append(key)
        return cls(len(token_ids), tuple(blocks))


@dataclass
class SeenPrompts:
    """The beginnings of prompts that a server was sent, least recently used first."""

    _blocks: OrderedDict[int, None] = field(default_factory=OrderedDict)

    def share(self, prompt: Prompt) -> float:
        """How much of the prompt the server has seen, from 0 to 1."""
        seen = 0
        while seen < len(prompt.blocks) and prompt.blocks[seen] in self._blocks:
            seen += 1
        return seen * BLOCK / max(prompt.tokens, 1)

    def add(self, prompt: Prompt) -> None:
        for key in reversed(prompt.blocks):  # a beginning is of use without its end only
            self._blocks[key] = None
            self._blocks.move_to_end(key)
        while len(self._blocks) > REMEMBERED:
            self._blocks.popitem(last=False)

    def clear(self) -> None:
        self._blocks.clear()


class Candidate(Protocol):
    """What `pick` looks at."""

    @property
    def load(self) -> int: ...

    @property
    def seen(self) -> SeenPrompts: ...

    @property
    def turn(self) -> int:
        """When it was picked last; among equals the longest ago is next."""
        ...


C = TypeVar("C", bound=Candidate)


def pick(candidates: Iterable[C], prompt: Prompt) -> C:
    """The server for this prompt."""
    servers = list(candidates)
    slack = SLACK + min(server.load for server in servers) / 2

    def cost(server: C) -> tuple[float, int]:
        return server.load - slack * server.seen.share(prompt), server.turn

    return min(servers, key=cost)
