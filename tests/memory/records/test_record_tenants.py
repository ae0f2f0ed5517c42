"""Tenants and end users interleaved, under names made to confuse keys: nobody reads another's."""

import asyncio
import uuid

from burnish.memory import MemoryStore, connect
from burnish.memory.export import export_user
from burnish.memory.records.record import RecordFilter
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory.conftest import count_words

NAMES = ["a", "a:b", "a}", "{a", "a%3Ab", "A", "a b", "ü", "user:a", "a\\"]
steps = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.sampled_from(["note", "slot", "file", "said", "forget"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25)
@given(steps)
def test_no_read_ever_crosses(redis_url: str, history: list[tuple[str, str, str]]):
    async def play() -> None:
        client = connect(redis_url)
        store = MemoryStore(client, count_words)
        run = uuid.uuid4().hex
        kept: dict[tuple[str, str], int] = {}
        for turn, (tenant, user, op) in enumerate(history):
            mark = f"secret of {NAMES.index(tenant)} and {NAMES.index(user)}"
            own = kept.setdefault((tenant, user), 0)
            at = f"{run}/{tenant}"
            if op == "note":
                await store.records.put(at, {"text": mark, "user": user})
            elif op == "slot":
                slot = {"subject": "door", "predicate": "code", "value": f"{mark} {own}"}
                await store.records.put(at, {**slot, "user": user})
            elif op == "file":
                path = f"/memories/{own}"
                command = {"command": "create", "path": path, "file_text": mark}
                await store.files.run(at, user, command)
            elif op == "said":
                said = [{"role": "user", "content": mark}]
                await store.append(at, f"session {turn} of {user}", said, user=user)
            else:
                await store.forget_user(at, user)
                kept[tenant, user] = -1
            kept[tenant, user] += 1
        for tenant, user in {(t, u) for t in NAMES[:4] for u in NAMES[:4]} | set(kept):
            at, mark = f"{run}/{tenant}", f"secret of {NAMES.index(tenant)} and {NAMES.index(user)}"
            ever = RecordFilter(user=user, include_superseded=True, include_expired=True)
            found = await store.records.search(at, "secret door code", ever)
            listed = await store.records.list(at, ever, limit=1000)
            everything = [one async for one in export_user(store, at, user)]
            assert {row["id"] for row in found} <= {row["id"] for row in listed}
            assert all(mark in row["text"] for row in [*found, *listed])
            texts = [x for one in everything if (x := one.get("text") or one.get("content"))]
            assert all(mark in text for text in texts)
            assert len(texts) == kept.get((tenant, user), 0)
        await client.aclose()

    asyncio.run(play())
