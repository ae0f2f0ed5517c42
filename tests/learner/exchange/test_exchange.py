"""From an export into the database and out again: nothing twice, nothing lost, the shapes TRL reads."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from burnish.kernels.folder import open_folder
from burnish.learner.database import Database
from burnish.learner.exchange import export, plain
from burnish.learner.exchange.events import events_of
from burnish.learner.exchange.turns import Opinion, RowError, Turn
from burnish.learner.intake.consume import upsert
from burnish.learner.tables import ExperienceRow
from sqlalchemy import func, select

VOTES = (("4", "up"), ("5", "down"))


def turn(answer: str = "4", thumbs: str = "up", question: str = "2 + 2?", *more: Opinion) -> Turn:
    asked = ({"role": "user", "content": question},)
    at = datetime(2026, 5, 1, tzinfo=UTC)
    return Turn(
        f"t/{question}/{answer}", asked, answer, at, (Opinion("thumbs", thumbs), *more), user="u"
    )


@pytest.fixture(scope="module")
def folder(tiny_model):
    return open_folder(tiny_model)


def take_in(database: Database, folder, *turns: Turn) -> None:
    with database.write() as session:
        upsert(
            session,
            [e for t in turns for e in events_of(t, folder, policy="default", tenant="local")],
        )


def rows(database: Database, shape: export.Shape) -> list[dict]:
    return list(export.rows(export.judged_answers(database, "default"), shape))


def test_an_imported_answer_is_experience_in_the_models_own_tokens(database, folder):
    take_in(database, folder, turn())
    [judged] = export.judged_answers(database, "default")
    tokens = judged.completion.token_ids
    assert folder.tokenizer.decode(tokens) == "4<|im_end|>"
    assert "2 + 2?" in folder.tokenizer.decode(judged.interaction.prompt_ids)
    assert judged.reward == 1.0
    assert judged.interaction.meta["imported"] == "t/2 + 2?/4"


def test_importing_twice_counts_once(sqlite, folder):
    take_in(sqlite, folder, turn(), turn("5", "down"))
    take_in(sqlite, folder, turn(), turn("5", "down"))
    with sqlite.read() as session:
        assert session.scalar(select(func.count()).select_from(ExperienceRow)) == 2


def test_a_judgement_that_means_nothing_is_refused_by_name(folder):
    wrong = turn("4", "sideways")
    with pytest.raises(RowError, match="thumbs must be"):
        list(events_of(wrong, folder, policy="default", tenant="local"))


def test_every_shape_of_export(sqlite, folder):
    take_in(
        sqlite,
        folder,
        turn("4", "up"),
        turn("5", "down"),
        turn("Hi.", "down", "Greet me.", Opinion("correction", "Hello!")),
    )
    asked = [{"role": "user", "content": "2 + 2?"}]
    four, five = ([{"role": "assistant", "content": text}] for text in ("4", "5"))
    kto = rows(sqlite, "kto")
    assert [(row["prompt"], row["completion"], row["label"]) for row in kto[:2]] in (
        [(asked, four, True), (asked, five, False)],
        [(asked, five, False), (asked, four, True)],
    )
    assert {row["version"] for row in kto} == {1}
    sft = [row["messages"][-1]["content"] for row in rows(sqlite, "sft")]
    assert sorted(sft) == ["4", "Hello!"]
    pairs = {
        row["chosen"][0]["content"]: row["rejected"][0]["content"] for row in rows(sqlite, "dpo")
    }
    assert pairs == {"Hello!": "Hi.", "4": "5"}
    log = rows(sqlite, "log")
    assert len(log) == 3
    assert all(row["token_ids"] and row["judgements"] for row in log)


@pytest.mark.parametrize("shape", ["kto", "dpo"])
def test_what_is_exported_can_be_imported(sqlite, folder, shape):
    take_in(sqlite, folder, turn("4", "up"), turn("5", "down"))
    again = [t for row in rows(sqlite, shape) for t in plain.turns(row)]
    assert sorted((t.answer, t.opinions[0].value) for t in again) == [("4", "up"), ("5", "down")]


@pytest.mark.parametrize("shape", ["kto", "dpo", "sft"])
def test_tools_that_were_offered_go_out_and_come_back(sqlite, folder, shape):
    calculator = {"type": "function", "function": {"name": "calculator", "parameters": {}}}
    offered = [replace(turn(text, thumbs), tools=(calculator,)) for text, thumbs in VOTES]
    take_in(sqlite, folder, *offered)
    found = rows(sqlite, shape)
    assert found
    for row in found:
        assert json.loads(row["tools"]) == [calculator]
        assert [t.tools for t in plain.turns(row)] in ([[calculator]], [[calculator]] * 2)


def test_tools_that_are_no_json_are_refused_by_name():
    with pytest.raises(RowError, match="tools: this is no JSON: none"):
        list(plain.turns({"prompt": "a", "completion": "b", "tools": "none"}))
