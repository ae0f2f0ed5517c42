"""What the learner reads: order, staleness, who is trusted, and what is new."""

from datetime import timedelta

from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.weighing import Weights, weigh
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.reward import experience
from burnish.learner.reward.experience import (
    Correction,
    JudgedAnswer,
    TrustedExperience,
    load,
    new_events,
    prompts,
    weighed,
)

from tests.learner.conftest import START, interaction, retraction, thumbs


def put(database: Database, *events) -> None:
    with database.write() as session:
        upsert(session, events)


def loaded(database: Database, **changes):
    with database.read() as session:
        options = {"champion": 1, "limit": 100, "max_staleness": 100, **changes}
        return load(session, "default", **options)


def trusted(answers: list[JudgedAnswer], policy: TrustPolicy | None = None) -> TrustedExperience:
    """Weighed without a model that expects anything."""
    judgements = [judgement for answer in answers for judgement in answer.judgements]
    return weighed(answers, weigh(judgements, None, policy))


def test_experience_carries_tokens_log_probabilities_and_judgements(database: Database):
    put(database, interaction(1, version=3), thumbs(1, "down"))
    (item,) = trusted(loaded(database, champion=5)).experience
    assert (item.prompt_ids, item.token_ids, item.logprobs) == ((1, 2, 3), (4, 5), (-0.5, -0.25))
    assert (item.reward, item.weight, item.staleness) == (-1.0, 1.0, 2)
    assert [judgement.value for judgement in item.judgements] == ["down"]


def test_the_latest_come_last_and_the_too_stale_not_at_all(database: Database):
    for number, version in ((1, 1), (2, 8), (3, 9)):
        put(database, interaction(number, version=version), thumbs(number))
    found = loaded(database, champion=9, max_staleness=2)
    assert [item.interaction_id for item in found] == ["chatcmpl-0002", "chatcmpl-0003"]
    assert len(loaded(database, champion=9, limit=1)) == 1


def test_prompts_are_asked_once_newest_first(database: Database):
    put(database, interaction(1), interaction(2), interaction(3, prompt_ids=[9]))
    with database.read() as session:
        assert [p.token_ids for p in prompts(session, "default", 10)] == [(9,), (1, 2, 3)]


def test_what_is_new_is_numbered_as_it_begins_to_count(database: Database):
    put(database, thumbs(2, on=2))  # waits
    put(database, interaction(1), thumbs(1))
    with database.read() as session:
        first = experience.high_water(session, "default")
        assert new_events(session, "default", 0, first) == ["local/fb-0001"]
    put(database, interaction(2))
    with database.read() as session:
        second = experience.high_water(session, "default")
        assert new_events(session, "default", first, second) == ["local/fb-0002"]


def test_a_retraction_makes_nothing_new(database: Database):
    put(database, interaction(1), thumbs(1))
    with database.read() as session:
        mark = experience.high_water(session, "default")
    put(database, retraction(1))
    with database.read() as session:
        assert new_events(session, "default", mark, mark + 10) == []
        assert experience.count(session, "default") == 0


def test_a_burst_of_one_user_is_not_trusted(sqlite: Database):
    for number in range(1, 51):
        quick = START + timedelta(seconds=number / 10)
        put(sqlite, interaction(number), thumbs(number, "down", user="bot", time=quick))
    for number in range(51, 54):
        slow = START + timedelta(minutes=number)
        put(sqlite, interaction(number), thumbs(number, time=slow))
    found = trusted(loaded(sqlite))
    assert found.quarantined == 50
    assert {item.interaction_id for item in found.experience} == {
        "chatcmpl-0051",
        "chatcmpl-0052",
        "chatcmpl-0053",
    }


def test_who_contradicts_everybody_counts_less(sqlite: Database):
    for number in range(1, 21):
        when = START + timedelta(minutes=10 * number)
        put(sqlite, interaction(number))
        for place, user in enumerate(("ada", "ben", "contrary")):
            value = "down" if user == "contrary" else "up"
            put(sqlite, thumbs(10 * number + place, value, on=number, user=user, time=when))
    assert min(item.reward for item in trusted(loaded(sqlite)).experience) > 0.8


def test_who_asked_counts_where_a_judgement_names_nobody(sqlite: Database):
    put(sqlite, interaction(1, user="ada"), thumbs(1, user=None))
    ((judgement,),) = [item.judgements for item in loaded(sqlite)]
    assert (judgement.user, judgement.asker) == (None, "ada")


def test_who_judged_is_told_and_not_who_asked(sqlite: Database):
    put(sqlite, interaction(1, user="ada"), interaction(2, user="ada"), interaction(3, user=None))
    later = START + timedelta(hours=1)
    put(sqlite, thumbs(1, user="ben"), thumbs(2, on=1, user="eve", time=later))
    put(sqlite, thumbs(3, on=2, user=None), thumbs(4, on=3, user=None))
    people = {item.interaction_id[-1]: item.person for item in trusted(loaded(sqlite)).experience}
    assert people == {"1": ("local", "eve"), "2": ("local", "ada"), "3": None}


def test_an_answer_chosen_among_several_is_no_plain_sample(sqlite: Database):
    put(sqlite, interaction(1), thumbs(1), interaction(2, best_of={"candidates": 4}), thumbs(2))
    assert [item.chosen for item in loaded(sqlite)] == [False, True]


def test_without_expectations_newcomers_count_in_full(sqlite: Database):
    put(sqlite, interaction(1), thumbs(1, user="ada"), thumbs(2, "up", on=1, user=None))
    (item,) = trusted(loaded(sqlite)).experience
    assert (item.reward, item.weight) == (1.0, 1.0)


def test_a_correction_comes_with_how_far_its_author_is_trusted(sqlite: Database):
    put(sqlite, interaction(1), thumbs(1, "Good day.", name="correction", user="ada"))
    (item,) = trusted(loaded(sqlite)).experience
    assert item.corrections == (Correction("Good day.", 1.0, 1.0, ("local", "ada")),)
    assert (item.reward, item.weight) == (-0.5, 0.6)


def test_a_correction_is_heard_as_far_as_caps_leave_it(sqlite: Database):
    put(sqlite, interaction(1), thumbs(1, "Good day.", name="correction", user="ada"))
    capped = Weights(weights=(0.2,), reliability={}, heard=(0.25,))
    (item,) = weighed(loaded(sqlite), capped).experience
    assert item.corrections == (Correction("Good day.", 0.2, 0.25, ("local", "ada")),)


def test_a_correction_in_quarantine_is_not_learnt_from(sqlite: Database):
    for number in range(1, 51):
        quick = START + timedelta(seconds=number / 10)
        said = thumbs(number, "Buy now!", name="correction", user="bot", time=quick)
        put(sqlite, interaction(number), said)
    put(sqlite, thumbs(99, "up", on=7, time=START + timedelta(hours=9)))
    (item,) = trusted(loaded(sqlite)).experience
    assert item.interaction_id == "chatcmpl-0007"
    assert item.reward == 1.0
    assert len(item.judgements) == 2
    assert item.corrections == ()
