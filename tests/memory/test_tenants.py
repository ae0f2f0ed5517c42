"""Tenants at work in the same sessions' names at the same time: no read ever crosses."""

import asyncio
import uuid

from burnish.memory import MemoryStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.memory.sessions.test_sessions import said

NAMES = st.sampled_from(["a", "a:b", "b", "a}", "{a", "a%3Ab", "é", "*"])
OPERATIONS = st.sampled_from(["append", "compact", "context", "search", "read", "delete", "forget"])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(work=st.lists(st.tuples(NAMES, NAMES, OPERATIONS), min_size=5, max_size=40))
async def test_no_read_crosses(store: MemoryStore, work: list[tuple[str, str, str]]):
    run = uuid.uuid4().hex
    written: dict[tuple[str, str], int] = {}

    async def one(place: int, name: str, session: str, operation: str) -> None:
        tenant = f"{run}{name}"
        mine = f"owner{name.encode().hex()}x{session.encode().hex()}x"
        if operation == "append" or (tenant, session) not in written:
            written[tenant, session] = place
            await store.append(tenant, session, [said(f"{mine} common words {place}")])
        if operation == "compact":
            await store.compaction.compact(tenant, session, "summary", 100)
        if operation == "delete":
            log = await store.read(tenant, session, limit=1)
            if log:
                await store.changes.delete(tenant, session, [log[0]["cursor"]])
        if operation == "forget":
            log = await store.read(tenant, session, limit=1)
            if log:
                await store.forget(tenant, session, [log[0]["cursor"]])
        found = await store.search(tenant, session, "common words", limit=50)
        found += await store.read(tenant, session, limit=100)
        found += (await store.context(tenant, session, 200, "common"))["messages"]
        assert all(mine in step["content"] for step in found)

    for start in range(0, len(work), 4):
        some = work[start : start + 4]
        places = {(name, session): (name, session, op) for name, session, op in some}
        await asyncio.gather(*(one(start + n, *w) for n, w in enumerate(places.values())))
