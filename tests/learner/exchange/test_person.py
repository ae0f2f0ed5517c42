"""All that is held on one end user, and nothing on others."""

from burnish.feedback.events import Arm
from burnish.learner.database import Database
from burnish.learner.exchange.person import held_on
from burnish.learner.intake.erasure import erase_user
from burnish.learner.intake.upsert import upsert

from tests.learner.conftest import START, interaction, thumbs


def test_it_is_what_they_did_and_what_was_said_of_it(database: Database):
    with database.write() as session:
        upsert(
            session,
            [
                interaction(1, arm=Arm(name="challenger", challenger=2, subject="a1b2")),
                interaction(2, user="bob"),
                interaction(3, tenant="other"),
                thumbs(1, user="bob"),
                thumbs(2),
                thumbs(3, on=2, user="bob"),
            ],
        )
    found = list(held_on(database, "local", "ada"))
    assert [(one["type"], one["id"]) for one in found] == [
        ("interaction", "chatcmpl-0001"),
        ("judgement", "fb-0001"),
        ("judgement", "fb-0002"),
    ]
    assert found[0]["messages"] == [{"role": "user", "content": "hello"}]
    assert found[0]["metadata"] == {}
    assert [answer["text"] for answer in found[0]["completions"]] == ["hi"]
    assert (found[0]["canary"]["name"], found[0]["canary"]["challenger"]) == ("challenger", 2)
    with database.write() as session:
        erase_user(session, "local", "ada", START.timestamp())
    assert list(held_on(database, "local", "ada")) == []
