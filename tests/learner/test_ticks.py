from burnish.learner.database import Database
from burnish.learner.tables import TickRow
from burnish.learner.ticks import (
    KEPT,
    Tick,
    intake_sentence,
    publish,
    publish_intake,
    record,
)
from sqlalchemy import select

from tests.learner.conftest import latest_ticks


def test_the_newest_line_comes_first(redis_client):
    for number in range(3):
        publish(redis_client, Tick("update", "default", f"line {number}"))
    assert [tick["did"] for tick in latest_ticks(redis_client)] == ["line 2", "line 1", "line 0"]


def test_old_lines_are_dropped(redis_client):
    for number in range(KEPT + 5):
        publish(redis_client, Tick("update", "default", f"line {number}"))
    assert redis_client.llen("burnish:ticks") == KEPT


def test_intakes_in_a_row_are_one_line(redis_client):
    for _ in range(3):
        publish_intake(redis_client, Tick("intake", "*", "", counts={"interactions": 2}))
    publish(redis_client, Tick("update", "default", "trained"))
    publish_intake(redis_client, Tick("intake", "*", "took in", counts={"judgements": 1}))
    lines = latest_ticks(redis_client)
    assert [tick["kind"] for tick in lines] == ["intake", "update", "intake"]
    assert lines[2]["did"] == "took in 6 interactions, 0 judgements"


def test_a_sentence_names_what_was_odd():
    counts = {"interactions": 3, "judgements": 2, "repeats": 1, "unreadable": 4}
    assert intake_sentence(counts) == (
        "took in 3 interactions, 2 judgements; 1 were repeats; "
        "4 unreadable went to the dead letters"
    )


def test_a_line_is_kept_in_the_database(database: Database):
    tick = Tick("update", "default", "trained nothing", "too little", counts={"steps": 3})
    with database.write() as session:
        record(session, tick)
    with database.read() as session:
        (row,) = session.scalars(select(TickRow))
    assert (row.id, row.did, row.why_not, row.counts) == (
        tick.id, "trained nothing", "too little", {"steps": 3},
    )  # fmt: skip
