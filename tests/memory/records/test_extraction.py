"""From steps to records: what is found, what is left alone, and that twice is once."""

import json
import random
import time
from collections.abc import Mapping
from typing import Any

import pytest
from burnish.memory import BadStep, MemoryStore, PolicyFailed, connect
from burnish.memory.records.patterns import facts
from burnish.memory.records.record import RecordFilter

from tests.memory.conftest import count_words
from tests.memory.records.sentences import made, measure

EVER = RecordFilter(include_superseded=True)


def said(*texts: str, role: str = "user") -> list[dict[str, Any]]:
    return [{"role": role, "content": text} for text in texts]


def test_hardly_any_junk_and_most_facts():
    precision, recall, wrong = measure(made(random.Random(11), 1500))
    assert precision >= 0.98, wrong
    assert recall >= 0.85, wrong


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("I live in Porto now.", ("user", "lives in", "Porto")),
        ("My favourite tea is now sencha.", ("user", "favourite tea", "sencha")),
        ("the deadline for the report is 2026-05-01", ("report", "deadline", "2026-05-01")),
        ("I hate cilantro", ("user", "opinion of cilantro", "hate")),
        ('my locker code is "0042"', ("user", "locker code", "0042")),
        ("We changed the retry limit from 3 to 5.", ("retry limit", "is", "5")),
        ("  db.pool_size = 20", ("db.pool_size", "is", "20")),
    ],
)
def test_one_sentence_one_fact(sentence: str, expected: tuple[str, str, str]):
    [fact] = facts(sentence)
    assert (fact.subject, fact.predicate, fact.value) == expected
    assert fact.value in fact.text
    assert fact.text in sentence


async def test_facts_supersede_in_the_order_they_were_said(store: MemoryStore, tenant: str):
    await store.append(tenant, "s", said("I live in Lisbon.", "Nice weather?"))
    await store.append(tenant, "s", said("I moved to Porto."))
    report = await store.extraction.extract(tenant, "s", user="ana")
    assert (report["created"], report["by"], report["cursor"]) == (2, "patterns", "3")
    [now] = await store.records.list(tenant, RecordFilter(user="ana"))
    assert (now["value"], now["session_id"], now["cursors"]) == ("Porto", "s", ["3"])
    assert [r["value"] for r in await store.records.list(tenant, EVER)] == ["Lisbon", "Porto"]


async def test_extracting_again_changes_nothing(store: MemoryStore, tenant: str):
    texts = ["I live in Lisbon.", "I live in lisbon!", "My name is Ana.", "I live in Porto."]
    await store.append(tenant, "s", said(*texts))
    await store.extraction.extract(tenant, "s")
    first = await store.records.list(tenant, EVER)
    [city] = [row for row in first if row["value"] == "Lisbon"]
    assert city["cursors"] == ["1", "2"]
    again = await store.extraction.extract(tenant, "s")
    assert (again["created"], again["facts"]) == (0, [])
    assert await store.records.list(tenant, EVER) == first


async def test_what_was_forgotten_stays_forgotten(store: MemoryStore, tenant: str):
    await store.append(tenant, "s", said("My name is Ana."))
    [fact] = (await store.extraction.extract(tenant, "s"))["facts"]
    await store.records.forget(tenant, fact["id"])
    again = await store.extraction.extract(tenant, "s")
    assert (again["created"], again["forgotten"]) == (0, 1)
    assert await store.records.list(tenant, EVER) == []


async def test_a_dry_run_only_tells(store: MemoryStore, tenant: str):
    await store.append(tenant, "s", said("My name is Ana."))
    report = await store.extraction.extract(tenant, "s", dry_run=True)
    assert [fact["value"] for fact in report["facts"]] == ["Ana"]
    assert await store.records.list(tenant, EVER) == []


async def test_only_what_the_asked_roles_said(store: MemoryStore, tenant: str):
    await store.append(tenant, "s", said("My name is Ana."))
    await store.append(tenant, "s", said("The port is 8080.", role="assistant"))
    report = await store.extraction.extract(tenant, "s", roles=["assistant"], dry_run=True)
    assert [fact["value"] for fact in report["facts"]] == ["8080"]
    with pytest.raises(BadStep, match="roles"):
        await store.extraction.extract(tenant, "s", roles=["wizard"])


class Model:
    """Answers from a list; remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.prompts: list[str] = []

    async def __call__(self, prompt: str, schema: Mapping[str, Any]) -> str:
        self.prompts.append(prompt)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, str) else json.dumps({"facts": answer})


def claim(step: str, subject: str, predicate: str, value: str) -> dict[str, str]:
    return {"step": step, "subject": subject, "predicate": predicate, "value": value}


async def test_a_model_adds_what_its_step_bears_out(redis_url: str, tenant: str):
    client = connect(redis_url)
    model = Model(
        [
            claim("1", "user", "is based in", "braga"),
            claim("1", "user", "salary", "90,000"),
            claim("2", "user", "is based in", "Braga"),
            claim("9", "user", "name", "Ana"),
            claim("2", "user", "is called", "Ana"),
            {"step": "1"},
        ]
    )
    store = MemoryStore(client, count_words, ask=model)
    await store.append(tenant, "s", said("These days Braga is my base.", "My name is Ana."))
    report = await store.extraction.extract(tenant, "s")
    assert report["by"] == "model and patterns"
    slots = [(fact["predicate"], fact["value"]) for fact in report["facts"]]
    assert slots == [("is based in", "Braga"), ("name", "Ana")]
    assert "[1] These days" in model.prompts[0]
    await client.aclose()


@pytest.mark.parametrize("answer", [PolicyFailed("away"), "no json", '{"facts": 3}', "[]"])
async def test_without_the_model_patterns_do(redis_url: str, tenant: str, answer: Any):
    client = connect(redis_url)
    store = MemoryStore(client, count_words, ask=Model(answer))
    await store.append(tenant, "s", said("My name is Ana."))
    report = await store.extraction.extract(tenant, "s")
    assert (report["by"], report["created"]) == ("patterns", 1)
    assert report["fell_back"]
    await client.aclose()


@pytest.mark.parametrize(
    "hostile",
    [
        "the " + "a of " * 45,
        "my " + "a.b " * 55,
        "aaaa-" * 47,
        "b_" * 115,
        "I " + "really love " * 18,
        "the port was changed from " + "to " * 60,
        "the a " + "is now " * 30,
        "now " * 57,
        "a " * 24 + ":" + " x" * 80,
    ],
)
def test_no_sentence_takes_long(hostile: str):
    start = time.process_time()
    list(facts(hostile))
    list(facts(hostile + "!"))
    assert time.process_time() - start < 0.5


async def test_of_a_cut_off_answer_the_whole_facts_count(redis_url: str, tenant: str):
    client = connect(redis_url)
    whole = json.dumps({"facts": [claim("1", "user", "base", "Braga"), claim("1", "x", "y", "z")]})
    store = MemoryStore(client, count_words, ask=Model(whole[:-20]))
    await store.append(tenant, "s", said("These days Braga is my base."))
    report = await store.extraction.extract(tenant, "s")
    assert [fact["value"] for fact in report["facts"]] == ["Braga"]
    await client.aclose()
