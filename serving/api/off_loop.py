"""Where work on a request is done: on the event loop if it is short, else on a thread.

One loop serves everybody, so nothing that grows with a body may run on it. Left out: work that is
the engine's, which has a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")

SHORT, LONG = 1_000, 64_000  # microseconds
# Long work waits for long work. Neither uses asyncio's own threads, where calls of other servers wait.
_medium = ThreadPoolExecutor(max_workers=4, thread_name_prefix="request")
_long = ThreadPoolExecutor(max_workers=2, thread_name_prefix="long-request")


async def off_loop(microseconds: float, call: Callable[[], T]) -> T:
    """The result of `call`, which takes about so long, as far as its input's size tells."""
    if microseconds <= SHORT:
        return call()
    threads = _medium if microseconds <= LONG else _long
    return await asyncio.get_running_loop().run_in_executor(threads, copy_context().run, call)


def work_of(value: Any) -> int:
    """Microseconds to tokenise or compile a JSON value, roughly: one for each character and member.
    Counts no further than LONG."""
    work, rest = 0, [value]
    while rest and work <= LONG:
        member = rest.pop()
        work += 1
        if isinstance(member, str):
            work += len(member)
        elif isinstance(member, dict):
            rest += member.keys()
            rest += member.values()
        elif isinstance(member, list | tuple):
            rest += member
    return work
