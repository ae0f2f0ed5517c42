"""Exports of other programs, in their formats: what is read, and what is told of broken rows."""

import json
from datetime import UTC, datetime

import pytest
from burnish.learner.exchange.reading import read

WEBUI_CHAT = {
    "id": "c1",
    "user_id": "u1",
    "title": "Trains",
    "chat": {
        "title": "Trains",
        "models": ["llama3"],
        "history": {
            "currentId": "m4",
            "messages": {
                "m1": {"id": "m1", "parentId": None, "childrenIds": ["m2"], "role": "user",
                       "content": "Hi", "timestamp": 1760000000},
                "m2": {"id": "m2", "parentId": "m1", "childrenIds": ["m3"], "role": "assistant",
                       "content": "Hello.", "model": "llama3", "timestamp": 1760000001},
                "m3": {"id": "m3", "parentId": "m2", "childrenIds": ["m4", "m5"], "role": "user",
                       "content": "When does it leave?", "timestamp": 1760000002},
                "m4": {"id": "m4", "parentId": "m3", "childrenIds": [], "role": "assistant",
                       "content": "At nine.", "model": "llama3", "timestamp": 1760000003,
                       "annotation": {"rating": 1, "comment": "short", "reason": "accurate",
                                      "details": {"rating": 10}}},
                "m5": {"id": "m5", "parentId": "m3", "childrenIds": [], "role": "assistant",
                       "content": "I do not know.", "timestamp": 1760000004,
                       "annotation": {"rating": -1}},
            },
        },
    },
}  # fmt: skip
WEBUI_FEEDBACK = {
    "id": "f1",
    "user_id": "u2",
    "version": 0,
    "type": "rating",
    "data": {"rating": -1, "model_id": "llama3", "reason": "not_helpful", "comment": ""},
    "meta": {"arena": False, "chat_id": "c1", "message_id": "m2", "message_index": 1},
    "snapshot": {"chat": WEBUI_CHAT},
    "created_at": 1760000100,
    "updated_at": 1760000200,
}
CHAT = [{"role": "user", "content": "2 + 2?"}]
GENERATION = {
    "id": "o1", "trace_id": "t1", "type": "GENERATION", "name": "chat",
    "start_time": "2026-05-01 10:00:00.500000", "user_id": "u1", "session_id": "s1",
    "input": json.dumps({"messages": CHAT}),
    "output": json.dumps({"role": "assistant", "content": "4"}),
    "provided_model_name": "gpt",
}  # fmt: skip


@pytest.fixture
def reading(tmp_path):
    def of(*rows, lines: bool = True, name: str = "export.jsonl"):
        file = tmp_path / name
        text = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        file.write_text("\n".join(text) if lines else f"[{','.join(text)}]")
        return read([file])

    return of


def said(turn) -> list[tuple]:
    return [(opinion.name, opinion.value) for opinion in turn.opinions]


def test_open_webuis_feedbacks_are_read_with_the_way_to_the_judged_answer(reading):
    [turn], broken = reading(WEBUI_FEEDBACK, lines=False, name="feedback-history-export.json")
    assert broken == []
    assert (turn.messages, turn.answer) == ([{"role": "user", "content": "Hi"}], "Hello.")
    assert said(turn) == [("thumbs", "down")]
    opinion = turn.opinions[0]
    assert (opinion.user, opinion.rationale) == ("u2", "not_helpful")
    assert opinion.at == datetime.fromtimestamp(1760000200, UTC)


def test_open_webuis_chats_are_read_with_their_annotations_branch_by_branch(reading):
    turns, broken = reading(WEBUI_CHAT, lines=False, name="chat-export.json")
    assert broken == []
    assert [turn.answer for turn in turns] == ["At nine.", "I do not know."]
    assert [message["content"] for message in turns[0].messages] == [
        "Hi",
        "Hello.",
        "When does it leave?",
    ]
    assert said(turns[0]) == [("thumbs", "up"), ("score", 1.0), ("comment", "short")]
    assert said(turns[1]) == [("thumbs", "down")]
    assert turns[0].session == "c1"


def test_langfuses_generations_are_joined_with_their_scores(reading):
    scores = [
        {"id": "s1", "trace_id": "t1", "observation_id": "o1", "name": "correct", "value": 1,
         "data_type": "BOOLEAN", "timestamp": "2026-05-01 11:00:00.000000"},
        {"id": "s2", "trace_id": "t1", "name": "quality", "value": 0.25, "comment": "meagre"},
        {"id": "s3", "trace_id": "t1", "name": "tone", "string_value": "dry", "value": 0,
         "data_type": "CATEGORICAL"},
        {"id": "s4", "trace_id": "t1", "name": "thumbs", "string_value": "Down", "value": 0,
         "data_type": "CATEGORICAL"},
    ]  # fmt: skip
    [turn], broken = reading(*scores, {"id": "sp", "trace_id": "t1", "type": "SPAN"}, GENERATION)
    assert broken == []
    assert (turn.messages, turn.answer, turn.model) == (CHAT, "4", "gpt")
    assert turn.at == datetime(2026, 5, 1, 10, 0, 0, 500000, UTC)
    assert said(turn) == [
        ("thumbs", "up"), ("score", 0.25), ("comment", "tone: dry"), ("thumbs", "down"),
    ]  # fmt: skip


def test_langfuses_api_rows_in_camel_case_are_the_same(reading):
    generation = {
        "id": "o1", "traceId": "t1", "type": "GENERATION", "startTime": "2026-05-01T10:00:00Z",
        "input": CHAT, "output": "4",
    }  # fmt: skip
    score = {"id": "s1", "traceId": "t1", "observationId": None, "name": "user", "value": -1,
             "dataType": "NUMERIC"}  # fmt: skip
    [turn], broken = reading(generation, score, lines=False)
    assert broken == []
    assert (turn.answer, said(turn)) == ("4", [("thumbs", "down")])


@pytest.mark.parametrize(
    ("row", "answers", "opinions"),
    [
        (
            {"messages": [*CHAT, {"role": "assistant", "content": "4"}], "thumbs": "up"},
            ["4"],
            [[("thumbs", "up")]],
        ),
        (
            {"prompt": "2 + 2?", "completion": "5", "correction": "4", "comment": "no"},
            ["5"],
            [[("correction", "4"), ("comment", "no")]],
        ),
        (
            {"prompt": CHAT, "completion": [{"role": "assistant", "content": "4"}], "label": True},
            ["4"],
            [[("thumbs", "up")]],
        ),
        (
            {
                "prompt": CHAT,
                "chosen": [{"role": "assistant", "content": "4"}],
                "rejected": [{"role": "assistant", "content": "5"}],
            },
            ["4", "5"],
            [[("thumbs", "up")], [("thumbs", "down")]],
        ),
    ],
)
def test_plain_rows_are_read(reading, row, answers, opinions):
    turns, broken = reading(row)
    assert broken == []
    assert [turn.answer for turn in turns] == answers
    assert [said(turn) for turn in turns] == opinions
    assert all(turn.messages == CHAT for turn in turns)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{", "no JSON"),
        ("7", "no JSON object"),
        ({"prompt": "x", "completion": 3}, "completion: a text or a list of messages"),
        ({"messages": CHAT}, "messages: it must end in an answer"),
        ({"messages": [{"content": "x"}]}, "messages.0: a message needs a role"),
        ({"text": "x"}, "neither messages nor prompt"),
        ({"prompt": "x", "completion": "y", "at": "yesterday"}, "at: no time"),
        ({**WEBUI_FEEDBACK, "meta": {"message_id": "m9"}}, "meta.message_id: the chat has no"),
        ({**WEBUI_FEEDBACK, "snapshot": {}}, "snapshot.chat: the chat of the feedback is missing"),
        ({**WEBUI_FEEDBACK, "data": {"rating": 5}}, "rating: 1 or -1 is needed, not 5"),
        ({**GENERATION, "input": None}, "input: a list of messages is needed"),
        ({"trace_id": "t9", "name": "x", "value": 1}, "trace_id: no generation of 't9'"),
        ({"trace_id": "t1", "name": "x", "value": 7}, "value: from 0 to 1"),
        ({"trace_id": "t1", "name": "x", "value": None}, "value: a number is needed"),
    ],
)
def test_a_broken_row_is_told_and_the_rest_is_read(reading, row, why):
    good = {"prompt": "2 + 2?", "completion": "4", "thumbs": "up"}
    turns, [broken] = reading(good, row, good | {"prompt": "3 + 1?"})
    assert len(turns) == 2
    assert str(broken).startswith(f"export.jsonl row 2: {why}")
    assert "\n" not in str(broken)
