"""The report's rows, as the database has them: which votes stand, whose they are, what hangs on them."""

import numpy as np
import pytest
from burnish.feedback.trust.policy import TrustPolicy
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.report.data import ReportData
from burnish.learner.report.reading import read, state_of
from burnish.learner.tables import FEATURES, AttemptRow, FeatureRow
from burnish.learner.ticks import Tick, record

from tests.learner.conftest import START, interaction, retraction, thumbs

T0 = START.timestamp()


def put(database: Database, *events) -> None:
    with database.write() as session:
        upsert(session, events)


def rows_of(database: Database, limit: int = 100, policy: str = "default") -> ReportData:
    with database.read() as session:
        return read(session, policy, at=1.0, limit=limit, trust=TrustPolicy())


def attempt(id: str, version: int | None, at: float, state: str = "finished", **changes):
    fields = {"policy": "default", "parent": 1, "high_water": 0, "tries": 1}
    return AttemptRow(id=id, version=version, started_at=at, state=state, **{**fields, **changes})


def completion(text: str, tokens: int) -> list[dict]:
    return [{"index": 0, "text": text, "finish_reason": "stop", "token_ids": [7] * tokens}]


def test_only_the_votes_that_stand_are_read(database: Database):
    put(database, *(interaction(n) for n in range(1, 5)))
    put(
        database,
        thumbs(1, "down"),
        thumbs(11, "up", on=1),  # changed their mind
        thumbs(2), retraction(2),
        thumbs(3, name="score", value=0.25),
        thumbs(4, name="comment", value="nice"),
    )  # fmt: skip
    votes = {vote.answer[0]: vote.value for vote in rows_of(database).votes}
    assert votes == {"chatcmpl-0001": 1.0, "chatcmpl-0003": 0.25}


def test_one_person_counts_once_on_an_answer(database: Database):
    put(database, interaction(1, user="ada"))
    put(
        database,
        thumbs(1, "up", user="ada"),
        thumbs(2, name="score", value=0.1, on=1, user="ada"),
        thumbs(3, "up", on=1, user="bob"),
        thumbs(4, "down", on=1, user=None),  # the chat says who that was
    )
    votes = {vote.rater: vote.value for vote in rows_of(database).votes}
    assert votes == {"local/user/ada": 0.0, "local/user/bob": 1.0}


def test_nobody_named_is_told_apart_by_session_or_answer(database: Database):
    put(
        database,
        interaction(1, user=None, session_id="s"),
        interaction(2, user=None, session_id="s"),
    )
    put(database, interaction(3, user=None))
    put(database, *(thumbs(n, user=None) for n in (1, 2, 3)))
    votes = rows_of(database).votes
    assert {v.rater for v in votes} == {"local/of/s", "local/of/chatcmpl-0003"}
    assert not any(v.named for v in votes)


def test_a_sessions_vote_is_shared_by_its_answers(database: Database):
    put(database, *(interaction(n, session_id="s") for n in (1, 2)))
    put(database, thumbs(1, "down", interaction_id=None, session_id="s"))
    assert [(v.value, v.share) for v in rows_of(database).votes] == [(0.0, 0.5), (0.0, 0.5)]


def test_votes_faster_than_people_read_are_left_out_and_counted(database: Database):
    put(database, *(interaction(n) for n in range(1, 42)))
    put(database, *(thumbs(n, time=START) for n in range(1, 41)), thumbs(41, user="bob"))
    read_ = rows_of(database)
    assert read_.quarantined == 40
    assert [v.rater for v in read_.votes] == ["local/user/bob"]


def test_answers_come_with_length_and_manner(database: Database):
    put(
        database,
        interaction(1, completions=completion("I'm sorry, but I can't.", 9)),
        interaction(2, version=3, completions=completion("Which one?", 4)),
        *(thumbs(n) for n in (1, 2)),
    )
    refusal, question = rows_of(database).answers
    assert (refusal.tokens, refusal.refuses, refusal.asks) == (9, True, False)
    assert (question.tokens, question.refuses, question.asks) == (4, False, True)
    assert (question.version, question.key) == (3, ("chatcmpl-0002", 0))


def test_the_latest_judged_answers_of_the_policy_are_read(database: Database):
    put(database, *(interaction(n) for n in range(1, 6)), *(thumbs(n) for n in range(1, 6)))
    put(database, interaction(9, policy="shop"), thumbs(9))
    assert [a.key[0] for a in rows_of(database, limit=2).answers] == [
        "chatcmpl-0004",
        "chatcmpl-0005",
    ]
    assert len(rows_of(database).answers) == 5
    assert len(rows_of(database, policy="shop").votes) == 1
    assert rows_of(database, policy="nowhere").answers == []


def test_corrections_are_counted(database: Database):
    put(database, interaction(1), thumbs(1, name="correction", value="Hello."))
    read_ = rows_of(database)
    assert (read_.corrections, list(read_.votes)) == (1, [])


def test_signals_are_read_beside_the_votes_on_the_same_answers(database: Database):
    put(database, *(interaction(n) for n in (1, 2)), thumbs(1), thumbs(2, "down"))
    put(database, thumbs(3, "copied", on=1, name="signal"))
    copied = rows_of(database).signals["copied"]
    assert copied.seen == 1
    assert copied.liked > copied.otherwise


def test_features_are_those_of_the_base_that_most_answers_have(database: Database):
    put(database, *(interaction(n) for n in (1, 2)), *(thumbs(n) for n in (1, 2)))
    with database.write() as session:
        for number, base in ((1, "new"), (2, "new"), (1, "old")):
            vector = np.full(3, 2.0 if base == "new" else 1.0, dtype=np.float16).tobytes()
            session.add(
                FeatureRow(
                    interaction_id=f"chatcmpl-{number:04}",
                    choice=0,
                    base_sha256=f"{base}/{FEATURES}",
                    vector=vector,
                )
            )
    features = rows_of(database).features
    assert {key[0]: list(vector) for key, vector in features.items()} == {
        "chatcmpl-0001": [2.0] * 3,
        "chatcmpl-0002": [2.0] * 3,
    }


def test_a_version_begins_with_its_update_or_its_first_answer(database: Database):
    put(database, interaction(1, version=2), interaction(2, version=3), interaction(3, version=3))
    put(database, *(thumbs(n) for n in (1, 2, 3)))
    with database.write() as session:
        session.add_all([attempt("a", 2, T0 - 50), attempt("b", 9, T0), attempt("c", None, T0)])
    assert rows_of(database).began == {2: T0 - 50, 3: T0 + 2}


def test_updates_bring_the_figures_of_their_ticks(database: Database):
    with database.write() as session:
        session.add_all([attempt("b", 3, T0 + 9), attempt("a", 2, T0), attempt("c", None, T0 + 20)])
        for id, version in (("a", 2), ("b", 3)):
            record(
                session, Tick("update", "default", "x", counts={"version": version}, id=id, at=T0)
            )
        idle = Tick("update", "default", "trained nothing", "3 new judgements", at=T0 + 30)
        record(session, idle)
        record(session, Tick("update", "shop", "trained", at=T0 + 40))
    read_ = rows_of(database)
    assert [(u.version, u.counts) for u in read_.updates] == [
        (2, {"version": 2}),
        (3, {"version": 3}),
    ]
    assert read_.last_update == "trained nothing: 3 new judgements"


@pytest.mark.parametrize("change", ["vote", "attempt", "progress"])
def test_the_state_changes_with_votes_and_updates(database: Database, change: str):
    put(database, interaction(1), interaction(2), thumbs(1))
    with database.write() as session:
        session.add(attempt("a", None, T0, "training"))
    with database.read() as session:
        before = state_of(session, "default")
        assert state_of(session, "default") == before
    if change == "vote":
        put(database, thumbs(2))
    with database.write() as session:
        if change == "attempt":
            session.add(attempt("b", None, T0 + 1, "training"))
        if change == "progress":
            session.merge(attempt("a", 2, T0))
    with database.read() as session:
        assert state_of(session, "default") != before
        assert state_of(session, "shop") == "0"
