"""Slots: one value at a time, every value kept. Random histories against a plain model."""

import asyncio
import itertools
import math
import uuid
from dataclasses import dataclass

import pytest
from burnish.memory import (
    BadStep,
    Forgotten,
    MemoryStore,
    Record,
    RecordNotFound,
    StaleRecord,
    connect,
)
from burnish.memory.records.record import RecordFilter
from hypothesis import given
from hypothesis import strategies as st

from tests.memory.conftest import count_words

NOW = 100.0
EVER = RecordFilter(include_superseded=True)
LIVES = {"user": "ana", "subject": "ana", "predicate": "lives in"}


@dataclass
class Window:
    """The model's record: what it claims, and its place among those of the same moment."""

    value: str
    start: float
    ends: float
    age: int
    until: float = math.inf


class Model:
    """Slots as one would write them on paper."""

    def __init__(self) -> None:
        self.rows: dict[str, Window] = {}
        self.gone: set[str] = set()
        self.count = 0

    def put(self, name: str, value: str, start: float | None, ends: float) -> None:
        old = self.rows.get(name)
        if start is None:
            start = old.start if old else NOW
        self.count += 0 if old else 1
        self.rows[name] = Window(value, start, ends, old.age if old else self.count)

    def timeline(self) -> list[tuple[str, Window]]:
        rows = sorted(self.rows.items(), key=lambda pair: (pair[1].start, pair[1].age))
        for place, (_, row) in enumerate(rows):
            after = rows[place + 1][1].start if place + 1 < len(rows) else math.inf
            row.until = min(row.ends, after)
        return rows

    def forget(self, name: str) -> None:
        rows = self.timeline()
        place = [known for known, _ in rows].index(name)
        if place > 0:
            rows[place - 1][1].ends = rows[place - 1][1].until
        del self.rows[name]

    def at(self, moment: float) -> list[str]:
        return [row.value for _, row in self.timeline() if row.start <= moment < row.until]


moments = st.none() | st.integers(0, 9).map(float)
steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "forget"]),
        st.sampled_from("abcdef"),
        st.sampled_from(["Lisbon", "Porto", "Braga"]),
        moments,
        st.none() | st.integers(1, 12).map(float),
    ),
    max_size=14,
)


@given(steps)
def test_any_history_leaves_windows_that_never_overlap(redis_url: str, history: list):
    async def play() -> None:
        client = connect(redis_url)
        store = MemoryStore(client, count_words, clock=lambda: NOW).records
        tenant, model = uuid.uuid4().hex, Model()
        for op, name, value, start, length in history:
            if op == "put" and name not in model.gone:
                base = NOW if start is None else start
                ends = None if length is None or start is None else base + length
                record = {**LIVES, "id": name, "value": value}
                await store.put(tenant, {**record, "valid_from": start, "valid_until": ends})
                model.put(name, value, start, math.inf if ends is None else ends)
            elif name in model.rows:
                await getattr(store, op)(tenant, name)
                if op == "forget":
                    model.forget(name)
                    model.gone.add(name)
                else:
                    del model.rows[name]
        rows = {row["id"]: row for row in await store.list(tenant, EVER)}
        check_windows(rows)
        assert {
            name: (row["value"], row["valid_from"], until(row)) for name, row in rows.items()
        } == {name: (row.value, row.start, row.until) for name, row in model.timeline()}
        for moment in (0, 0.5, 3, 5, 9, 12, 100, 1000):
            held = await store.list(tenant, RecordFilter(as_of=moment))
            assert [row["value"] for row in held] == model.at(moment)
            found = await store.search(
                tenant, "ana lives in", RecordFilter(as_of=moment), recall=False
            )
            assert [row["id"] for row in found] == [row["id"] for row in held]
        await client.aclose()

    asyncio.run(play())


def check_windows(rows: dict[str, Record]) -> None:
    """Links go both ways and say where a window ended; no two windows share a moment."""
    for row in rows.values():
        if row["superseded_by"] is not None:
            after = rows[row["superseded_by"]]
            assert after["supersedes"] == row["id"]
            assert row["valid_until"] == after["valid_from"]
        if row["supersedes"] is not None:
            assert rows[row["supersedes"]]["superseded_by"] == row["id"]
    windows = sorted((row["valid_from"], until(row)) for row in rows.values())
    real = [window for window in windows if window[0] < window[1]]
    for (_, end), (start, _) in itertools.pairwise(real):
        assert end <= start


def until(row: Record) -> float:
    return math.inf if row["valid_until"] is None else row["valid_until"]


async def test_a_new_value_closes_the_old_window_and_keeps_it(store: MemoryStore, tenant: str):
    records = store.records
    old = await records.put(tenant, {**LIVES, "value": "Lisbon", "valid_from": 10})
    new = await records.put(tenant, {**LIVES, "value": "Porto", "valid_from": 20})
    old = await records.get(tenant, old["id"])
    assert (old["valid_until"], old["superseded_by"], new["supersedes"]) == (
        20,
        new["id"],
        old["id"],
    )
    assert [r["value"] for r in await records.search(tenant, "where does ana live")] == ["Porto"]
    then = await records.search(tenant, "where does ana live", RecordFilter(as_of=15))
    assert [r["value"] for r in then] == ["Lisbon"]
    assert len(await records.list(tenant, EVER)) == 2


async def test_a_fact_learned_late_takes_its_own_place(store: MemoryStore, tenant: str):
    await store.records.put(tenant, {**LIVES, "value": "Porto", "valid_from": 20})
    late = await store.records.put(tenant, {**LIVES, "value": "Lisbon", "valid_from": 10})
    assert late["valid_until"] == 20
    assert [r["value"] for r in await store.records.list(tenant)] == ["Porto"]


async def test_names_of_a_slot_differ_by_more_than_case(store: MemoryStore, tenant: str):
    await store.records.put(tenant, {**LIVES, "value": "Lisbon"})
    loud = {**LIVES, "subject": " ANA", "predicate": "Lives  In", "value": "Porto"}
    new = await store.records.put(tenant, loud)
    assert new["supersedes"] is not None
    ben = await store.records.put(tenant, {**LIVES, "user": "ben", "value": "Braga"})
    assert ben["supersedes"] is None
    asked = RecordFilter(subject="Ana", predicate="LIVES IN", user="ana")
    assert [r["value"] for r in await store.records.list(tenant, asked)] == ["Porto"]


async def test_the_same_value_again_is_one_more_source(store: MemoryStore, tenant: str):
    source = {**LIVES, "session_id": "s"}
    first = await store.records.put(tenant, {**source, "value": "Lisbon", "cursors": ["1"]})
    again = await store.records.put(tenant, {**source, "value": "lisbon.", "cursors": ["7"]})
    assert (again["id"], again["cursors"]) == (first["id"], ["1", "7"])
    assert len(await store.records.list(tenant, EVER)) == 1


async def test_undoing_a_value_brings_the_old_one_back_forgetting_does_not(
    store: MemoryStore, tenant: str
):
    for value in ("Lisbon", "Porto", "Braga"):
        await store.records.put(tenant, {**LIVES, "id": value, "value": value})
    await store.records.delete(tenant, "Braga")
    assert [r["value"] for r in await store.records.list(tenant)] == ["Porto"]
    await store.records.forget(tenant, "Porto")
    assert await store.records.list(tenant) == []
    [left] = await store.records.list(tenant, EVER)
    assert (left["value"], left["superseded_by"]) == ("Lisbon", None)
    with pytest.raises(Forgotten):
        await store.records.put(tenant, {"id": "Porto", "text": "again"})


async def test_a_stale_write_is_refused_and_says_the_version(store: MemoryStore, tenant: str):
    made = await store.records.put(tenant, {"id": "n", "text": "one"}, if_version=0)
    await store.records.put(tenant, {"id": "n", "text": "two"}, if_version=made["version"])
    with pytest.raises(StaleRecord) as refused:
        await store.records.put(tenant, {"id": "n", "text": "three"}, if_version=made["version"])
    assert refused.value.version == made["version"] + 1
    with pytest.raises(StaleRecord):
        await store.records.put(tenant, {"id": "n", "text": "new?"}, if_version=0)
    with pytest.raises(StaleRecord):
        await store.records.forget(tenant, "n", if_version=made["version"])
    assert (await store.records.get(tenant, "n"))["text"] == "two"


async def test_two_writers_never_lose_an_update(store: MemoryStore, tenant: str):
    await store.records.put(tenant, {"id": "n", "text": "0"})

    async def count(times: int) -> None:
        for _ in range(times):
            while True:
                seen = await store.records.get(tenant, "n")
                bigger = {"id": "n", "text": str(int(seen["text"]) + 1)}
                try:
                    await store.records.put(tenant, bigger, if_version=seen["version"])
                    break
                except StaleRecord:
                    continue

    await asyncio.gather(*(count(10) for _ in range(4)))
    assert (await store.records.get(tenant, "n"))["text"] == "40"


async def test_updates_of_different_fields_all_arrive(store: MemoryStore, tenant: str):
    await store.records.put(tenant, {**LIVES, "id": "n", "value": "Lisbon", "cursors": ["1"]})
    changes = [{"pinned": True}, {"expires_at": 4e9}, {"text": "Ana lives in Lisbon"}]
    await asyncio.gather(*(store.records.update(tenant, "n", change) for change in changes))
    kept = await store.records.get(tenant, "n")
    assert (kept["pinned"], kept["expires_at"], kept["text"], kept["cursors"]) == (
        True,
        4e9,
        "Ana lives in Lisbon",
        ["1"],
    )
    with pytest.raises(RecordNotFound):
        await store.records.update(tenant, "none", {"pinned": True})


async def test_expired_facts_are_not_shown(redis_url: str, tenant: str):
    client, now = connect(redis_url), [50.0]
    records = MemoryStore(client, count_words, clock=lambda: now[0]).records
    await records.put(tenant, {"id": "n", "text": "the code is 1234", "expires_at": 60})
    assert len(await records.search(tenant, "code")) == 1
    now[0] = 60.0
    assert await records.search(tenant, "code", EVER) == []
    assert await records.list(tenant, EVER) == []
    await client.aclose()


@pytest.mark.parametrize(
    "record",
    [
        {"text": "x", "subject": "a"},
        {"text": "x", "predicate": "a"},
        {"text": "x", "value": "a"},
        {"value": " ", "subject": "a", "predicate": "b"},
        {"text": "x", "valid_from": 2, "valid_until": 2},
        {"text": "x", "valid_from": "soon"},
        {"text": "x", "expires_at": math.nan},
        {"text": "x", "cursors": "12"},
    ],
)
async def test_a_slot_or_window_that_makes_no_sense_is_refused(
    store: MemoryStore, tenant: str, record: dict
):
    with pytest.raises(BadStep):
        await store.records.put(tenant, record)
