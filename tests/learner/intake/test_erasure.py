"""What is erased is gone from every table, stays out, and leaves no trace in what others are learnt from."""

from collections.abc import Iterable
from datetime import timedelta

import pytest
from burnish.feedback.events import Event
from burnish.learner.database import Database
from burnish.learner.intake.erasure import BATCH, Erased, erase_user, expire
from burnish.learner.intake.upsert import Counts, upsert
from burnish.learner.reward.features import _store
from burnish.learner.tables import (
    Base,
    ErasureRow,
    InteractionRow,
    JudgementRow,
    VersionEventRow,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from torch import zeros

from tests.learner.conftest import START, interaction, retraction, thumbs

LATER = (START + timedelta(hours=1)).timestamp()
KEPT = {"erasure", "counter", "version_event", "alembic_version"}


def put(database: Database, *events: Event) -> Counts:
    with database.write() as session:
        return upsert(session, events)


def erase(database: Database, user: str, now: float = LATER) -> Erased:
    with database.write() as session:
        return erase_user(session, "local", user, now)


def rows(database: Database) -> dict[str, set[tuple]]:
    """Every table's rows, `credit.seq` excepted: a number is given once and never again."""
    with database.read() as session:
        return {
            name: {
                tuple(str(value) for column, value in row.items() if column != "seq")
                for row in session.execute(select(table)).mappings()
            }
            for name, table in Base.metadata.tables.items()
            if name not in KEPT
        }


def test_of_an_erased_user_no_row_is_left(database: Database):
    put(database, interaction(1), thumbs(1), thumbs(2, on=9), retraction(2), interaction(3))
    _store(database, "base", {("chatcmpl-0001", 0): zeros(4)})
    assert erase(database, "ada") == Erased(interactions=2, judgements=2)
    assert not any(rows(database).values())


def test_others_keep_what_is_theirs_and_lose_what_the_erased_said(database: Database):
    bobs = interaction(2, user="bob"), thumbs(2, user="bob")
    put(database, *bobs)
    alone = rows(database)
    put(database, interaction(1), thumbs(1), thumbs(3, on=2, user="ada", value="down"))
    erase(database, "ada")
    assert rows(database) == alone


def test_a_user_of_another_tenant_is_another_person(database: Database):
    put(database, interaction(1, tenant="other"), thumbs(1, tenant="other"))
    before = rows(database)
    assert erase(database, "ada") == Erased()
    assert rows(database) == before


def test_a_sessions_judgement_of_an_erased_user_no_longer_counts_for_its_answers(
    database: Database,
):
    put(database, interaction(1, user="bob", session_id="s"))
    before = rows(database)
    put(database, thumbs(1, interaction_id=None, session_id="s"))
    assert rows(database)["experience"]
    erase(database, "ada")
    assert rows(database) == before


def test_what_arrives_late_stays_out_and_what_happens_later_comes_in(database: Database):
    erase(database, "ada", now=(START + timedelta(seconds=90)).timestamp())
    counts = put(database, interaction(1), thumbs(2, on=7), interaction(3, user="bob"))
    assert (counts.interactions, counts.judgements, counts.erased) == (1, 0, 2)
    put(database, interaction(100), thumbs(100))
    with database.read() as session:
        ids = set(session.scalars(select(InteractionRow.id)))
        given = list(session.scalars(select(JudgementRow.id)))
    assert ids == {"chatcmpl-0003", "chatcmpl-0100"}
    assert given == ["fb-0100"]


def test_it_tells_the_versions_that_have_learnt_from_what_is_gone(database: Database):
    put(database, interaction(1), thumbs(1), interaction(2, user="bob"), thumbs(2, user="bob"))
    with database.write() as session:
        for version, event in ((3, "local/fb-0001"), (5, "local/fb-0001"), (4, "local/fb-0002")):
            session.add(VersionEventRow(policy="default", version=version, event=event))
    assert erase(database, "ada").versions == {"default": [3, 5]}


def test_erasing_twice_changes_nothing(database: Database):
    put(database, interaction(1), thumbs(1))
    erase(database, "ada")
    assert erase(database, "ada", now=LATER + 1) == Erased()
    with database.read() as session:
        (row,) = session.scalars(select(ErasureRow))
    assert row.until == LATER + 1


@pytest.mark.parametrize("limit", [1, BATCH])
def test_what_is_older_than_the_retention_time_goes_batch_by_batch(database: Database, limit: int):
    put(database, *(interaction(n) for n in range(1, 8)), *(thumbs(n) for n in range(1, 8)))
    before = (START + timedelta(seconds=5)).timestamp()
    turns = 0
    while True:
        with database.write() as session:
            if not expire(session, before, limit):
                break
        turns += 1
    assert turns == (4 if limit == 1 else 1)
    left = rows(database)
    assert {name: len(left[name]) for name in ("interaction", "completion", "judgement")} == {
        "interaction": 3,
        "completion": 3,
        "judgement": 3,
    }
    assert len(left["experience"]) == len(left["credit"]) == 3


people = st.sampled_from(["ada", "bob", "cy"])
votes = st.lists(st.tuples(st.integers(1, 6), people, st.sampled_from(["up", "down"])), max_size=12)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(owners=st.lists(people, min_size=6, max_size=6), votes=votes)
def test_a_database_without_someone_is_as_if_they_had_never_come(
    tmp_path_factory: pytest.TempPathFactory, owners: list[str], votes: list[tuple]
):
    asked = [interaction(n, user=owner) for n, owner in enumerate(owners, 1)]
    said = [
        thumbs(n, on=on, user=user, value=value) for n, (on, user, value) in enumerate(votes, 1)
    ]

    def of(events: Iterable[Event], erased: str | None = None) -> dict[str, set[tuple]]:
        made = Database(f"sqlite:///{tmp_path_factory.mktemp('erasure')}/experience.db")
        made.migrate()
        put(made, *events)
        if erased:
            erase(made, erased)
        found = rows(made)
        made.close()
        return found

    theirs = {event.id for event in asked if event.user == "ada"}
    without = [e for e in asked if e.user != "ada"]
    without += [v for v in said if v.user != "ada" and v.interaction_id not in theirs]
    assert of([*asked, *said], erased="ada") == of(without)
