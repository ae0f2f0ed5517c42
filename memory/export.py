"""Data export of one end user: records, files, turns, sessions and their steps.

It covers what `MemoryStore.forget_user` erases. Left out: what others said in a shared session;
what is derived and rebuilt from it (indexes, vectors, summaries), and steps already deleted.
"""

from collections.abc import AsyncGenerator
from dataclasses import asdict
from typing import Any

from burnish.memory.errors import Forgotten, SessionNotFound
from burnish.memory.records.record import RecordFilter
from burnish.memory.store import MemoryStore

PAGE = 200


async def export_user(
    store: MemoryStore, tenant: str, user: str
) -> AsyncGenerator[dict[str, Any], None]:
    """One object at a time, each with its `type`: record, file, turn, session or step."""
    everything = RecordFilter(user=user, include_superseded=True, include_expired=True)
    async for record, _ in store.records.scan(tenant, everything):
        yield {"type": "record", **record}
    for path, content in sorted((await store.files.all(tenant, user)).items()):
        yield {"type": "file", "path": path, "content": content}
    for turn in await store.turns.of_user(tenant, user):
        yield {"type": "turn", **asdict(turn)}
    for session in await store.sessions_of(tenant, user):
        try:
            yield {"type": "session", **await store.stats(tenant, session)}
            after = "0"
            while steps := await store.read(tenant, session, after, PAGE):
                for step in steps:
                    if step.get("user") in (None, user):
                        yield {"type": "step", "session_id": session, **step}
                after = steps[-1]["cursor"]
        except (SessionNotFound, Forgotten):  # never begun, or forgotten meanwhile
            continue
