"""Packs from JSONL and entry points: what is read, what is told, and how tasks are split."""

import json
from importlib.metadata import EntryPoint
from itertools import islice
from random import Random
from types import SimpleNamespace

import pytest
from burnish.learner.tasks import CheckFailed, PackError, Task, open_source, sources
from burnish.learner.tasks.jsonl import JsonlPack


def line(question: str, **fields) -> str:
    return json.dumps(
        {"messages": [{"role": "user", "content": question}], "check": {"number": 4}, **fields}
    )


@pytest.fixture
def pack(tmp_path):
    def write(*lines: str, name: str = "orders.jsonl") -> JsonlPack:
        (tmp_path / name).write_text("\n".join(lines))
        return JsonlPack(tmp_path / name)

    return write


def drawn(source, family, split) -> list[str]:
    return [task.messages[0]["content"] for task in source.draw(Random(0), family, split)]


def test_a_pack_reads_one_task_a_line(pack):
    made = pack(
        line("2 + 2?"),
        "",
        line("Order?", family="lookup", level=2, check={"contains": "A7", "regex": "^Order"}),
    )
    assert made.problems == []
    assert [(task.family, task.level) for task in made.tasks] == [("orders", 1), ("lookup", 2)]
    assert [task.is_correct("Order A7") for task in made.tasks] == [False, True]
    assert not made.tasks[1].is_correct("An order, A7"), "both checks must hold"
    assert made.tasks[0].is_correct("<think>5?</think>4")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense", "no JSON"),
        ("[1]", "no JSON object"),
        (line("x", check={"nummber": 4}), "check.nummber: no such field; there are exact, number"),
        (line("x", check={"number": "4x"}), "check.number: it must be a number"),
        (line("x", check={"contains": []}), "check.contains: it must be a text"),
        (line("x", check={"regex": "("}), "check.regex: not a regular expression"),
        (line("x", check={"python": "a.py:f"}), "check.python: a.py cannot be imported"),
        (line("x", check={}), "check: it names none of exact, number"),
        (line("x", extra=1), "extra: no such field; there are messages, check"),
        (line("x", messages=[]), "messages: List should have at least 1 item"),
        (line("x", messages=[{"role": "usr", "content": "x"}]), "messages.0.role: Input should be"),
        (
            line("x", messages=[{"role": "assistant", "content": "x"}]),
            "messages: the last one is the assistant's",
        ),
        (line("x", level=0), "level: Input should be greater"),
        (line("x", split="test"), "split: Input should be 'train' or 'heldout'"),
        (line("good"), "messages: the same as in line 1"),
    ],
)
def test_a_bad_line_is_told_with_its_number_and_field_and_the_others_are_used(pack, text, why):
    made = pack(line("good"), text, line("good too"))
    assert len(made.tasks) == 2
    [problem] = made.problems
    assert str(problem).startswith(f"orders.jsonl line 2: {why}")
    assert "\n" not in str(problem)


def test_a_quarter_of_a_family_is_held_out_and_a_line_more_hardly_changes_that(pack):
    lines = [line(f"Question {n}?") for n in range(40)]
    made = pack(*lines)
    held, trained = drawn(made, "orders", "heldout"), drawn(made, "orders", "train")
    assert (len(held), len(trained)) == (10, 30)
    assert not set(held) & set(trained)
    more = drawn(pack(*lines, line("One more?")), "orders", "heldout")
    assert len(set(held) - set(more)) <= 1


def test_of_two_tasks_one_is_held_out_and_a_line_may_say_which(pack):
    made = pack(line("a"), line("b"))
    assert len(drawn(made, "orders", "heldout")) == 1
    made = pack(line("a", split="heldout"), line("b", split="heldout"), line("c"))
    assert sorted(drawn(made, "orders", "heldout")) == ["a", "b"]
    assert drawn(made, "orders", "train") == ["c"]


def test_several_sources_are_one_and_the_first_that_has_a_family_keeps_it(pack, tmp_path):
    pack(line("ours", family="sums"), line("own"), name="a.jsonl")
    source = open_source(f"{tmp_path}/a.jsonl, general")
    assert source.families[:2] == ["sums", "a"]
    assert source.families.count("sums") == 1
    assert drawn(source, "sums", "train") == ["ours"]
    assert "sums" not in source.calibrated
    assert "stories" in source.calibrated
    assert "stories" not in source.without(["stories"]).families


def test_what_could_not_be_used_is_a_note(pack, tmp_path):
    pack(line("good"), "{", "[", name="a.jsonl")
    (note,) = open_source(str(tmp_path)).notes
    assert note.startswith("a.jsonl line 2: no JSON")
    assert note.endswith("(and 1 lines more)")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("none.jsonl", "none.jsonl cannot be read: .*No such file"),
        ("bad.jsonl", "no line of it is a task, first bad.jsonl line 1: no JSON"),
        ("empty", "no \\*.jsonl file in this folder"),
        ("gneral", "neither a file nor a pack; there are auto, ember, general"),
    ],
)
def test_a_source_that_holds_nothing_is_refused(tmp_path, monkeypatch, name, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PackError, match=why):
        open_source(name)


def test_a_source_that_holds_nothing_is_a_note_beside_those_that_do(pack, tmp_path):
    pack(line("good"), name="a.jsonl")
    pack("x", name="b.jsonl")
    source = open_source(f"{tmp_path}, gneral")
    assert source.families == ["a"]
    empty, unknown = source.notes
    assert "b.jsonl: no line of it is a task" in empty
    assert unknown.startswith("gneral: neither a file nor a pack")


def greet(rng: Random, level: int) -> dict:
    name = f"P{rng.randrange(10**6)}"
    return {
        "messages": [{"role": "user", "content": f"Greet {name}."}],
        "check": lambda answer: name in answer,
    }


def test_an_entry_point_offers_a_generator_several_or_a_pack(monkeypatch):
    module = SimpleNamespace(one=greet, many={"greet": greet, "hail": greet}, wrong=3)
    points = [
        SimpleNamespace(name=name, value=f"m:{name}", load=lambda n=name: getattr(module, n))
        for name in ("one", "many", "wrong")
    ]
    monkeypatch.setattr(sources, "entry_points", lambda group: points)
    assert open_source("one").families == ["one"]
    source = open_source("many")
    assert source.families == ["greet", "hail"]
    tasks = list(islice(source.draw(Random(0), "hail", "train", 2), 5))
    assert {(task.family, task.level, task.split) for task in tasks} == {("hail", 2, "train")}
    name = tasks[0].messages[0]["content"].split()[1]
    assert tasks[0].is_correct(f"Hail {name}")
    with pytest.raises(PackError, match="wrong: m:wrong is no pack"):
        open_source("wrong")


def test_an_entry_point_that_cannot_be_imported_is_named(monkeypatch):
    point = EntryPoint("ours", "no_such_module:x", sources.GROUP)
    monkeypatch.setattr(sources, "entry_points", lambda group: [point])
    with pytest.raises(PackError, match="ours: no_such_module:x cannot be imported"):
        open_source("ours")


@pytest.mark.parametrize(
    ("verdict", "why"), [(lambda a: None, "returned None"), (lambda a: {}[a], "raised KeyError")]
)
def test_a_checker_without_a_verdict_is_no_verdict(verdict, why):
    task = Task("ours", ({"role": "user", "content": "x"},), verdict)
    with pytest.raises(CheckFailed, match=f"the checker of ours {why}"):
        task.is_correct("x")
