"""A store on the real Redis of the run; every test gets a tenant of its own."""

import uuid
from collections.abc import AsyncIterator

import pytest
from burnish.memory import MemoryStore, connect


def count_words(text: str) -> int:
    """A tokenizer whose counts a reader can check by eye."""
    return len(text.split())


class Clock:
    """Seconds since 1970 that pass only when a test says so."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[MemoryStore]:
    client = connect(redis_url)
    yield MemoryStore(client, count_words)
    await client.aclose()


@pytest.fixture
def tenant() -> str:
    return f"tenant-{uuid.uuid4().hex}"
