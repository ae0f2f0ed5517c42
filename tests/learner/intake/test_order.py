"""Any order, any duplication, any batching of the same events: the same experience."""

from datetime import timedelta

from burnish.feedback.events import Event
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.tables import Base, CreditRow, ExperienceRow, UnmatchedRow
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from tests.learner.conftest import START, interaction, retraction, thumbs

USERS = st.sampled_from(["ada", "bob", None])
TENANTS = st.sampled_from(["local", "local", "local", "other"])
WHEN = st.integers(0, 6).map(lambda hours: START + timedelta(hours=hours))


@st.composite
def histories(draw) -> list[Event]:
    events: list[Event] = []
    for number in range(1, draw(st.integers(1, 4)) + 1):
        events.append(interaction(number, session_id=draw(st.sampled_from(["s", None]))))
    for number in range(1, draw(st.integers(1, 6)) + 1):
        of_session = draw(st.integers(0, 3)) == 0
        target = draw(st.integers(1, 5))
        for revision in range(draw(st.integers(1, 2))):
            events.append(
                thumbs(
                    number,
                    draw(st.sampled_from(["up", "down"])),
                    revision=revision,
                    choice=draw(st.integers(0, 1)),
                    user=draw(USERS),
                    tenant=draw(TENANTS) if not revision else "local",
                    time=draw(WHEN),
                    interaction_id=None if of_session else f"chatcmpl-{target:04}",
                    session_id="s" if of_session else None,
                )
            )
        for again in range(draw(st.sampled_from([0, 0, 1, 2]))):
            events.append(retraction(number, id=f"rt-{number}-{again}", time=draw(WHEN)))
    return events


def experience_of(database: Database, batches: list[list[Event]]) -> tuple[list, list, list]:
    with database.write() as session:
        for table in Base.metadata.sorted_tables:
            session.execute(table.delete())
    for batch in batches:
        with database.write() as session:
            upsert(session, batch)
    with database.read() as session:
        rows = session.scalars(select(ExperienceRow)).all()
        credits = session.scalars(select(CreditRow)).all()
        unmatched = session.scalars(select(UnmatchedRow)).all()
    columns = [column.key for column in ExperienceRow.__table__.columns]
    return (
        sorted([repr([getattr(row, name) for name in columns]) for row in rows]),
        sorted((row.interaction_id, row.choice, row.event) for row in credits),
        sorted((row.tenant, row.id, row.since) for row in unmatched),
    )


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_order_duplicates_and_batches_do_not_matter(sqlite: Database, data: st.DataObject):
    history = data.draw(histories())
    shuffled = data.draw(st.permutations(history))
    repeated = shuffled + data.draw(st.lists(st.sampled_from(history), max_size=5))
    cut = data.draw(st.integers(0, len(repeated)))
    assert experience_of(sqlite, [history]) == experience_of(
        sqlite, [repeated[:cut], repeated[cut:]]
    )
