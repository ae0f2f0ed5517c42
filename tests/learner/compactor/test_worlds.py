"""Practice worlds and their reader: everything answerable, nothing from hidden state."""

import pytest
from burnish.learner.compactor import phrases, reader
from burnish.learner.compactor.environment import Environment, leave_one_out
from burnish.learner.compactor.ruler_worlds import needles, variables
from burnish.learner.compactor.vocabulary import (
    ATTRS,
    KEYS,
    PEOPLE,
    SERVICES,
    SPLITS,
    TASKS,
    names,
)
from burnish.learner.compactor.world import World
from burnish.learner.compactor.world_generator import make_world
from burnish.memory.compaction import Action, Decision
from hypothesis import given, settings
from hypothesis import strategies as st

KEEP, DROP = Decision(Action.KEEP, 1.0, ""), Decision(Action.DROP, 0.0, "")


def messages(world: World) -> list[dict]:
    return [{**step.message(), "cursors": [step.cursor]} for step in world.steps]


@given(seed=st.integers(0, 10**9), split=st.sampled_from(SPLITS))
@settings(max_examples=20)
def test_on_the_whole_log_the_reader_answers_everything(seed: int, split: str) -> None:
    world = make_world(seed, split)
    for question in world.questions:
        assert reader.answer(question.text, messages(world)) == question.answer


def test_ten_times_the_horizon_is_answered_as_well() -> None:
    world = make_world(1, "heldout", horizon=1300, questions=27)
    assert {question.kind for question in world.questions} == set(phrases.QUESTION_KINDS)
    assert all(reader.answer(q.text, messages(world)) == q.answer for q in world.questions)


@pytest.mark.parametrize("make", [needles, variables])
def test_needles_and_variables_are_answered_from_their_evidence_alone(make) -> None:
    world = make(3, 6000)
    for question in world.questions:
        only = [m for m in messages(world) if int(m["cursors"][0]) in question.evidence]
        assert reader.answer(question.text, only) == question.answer
        assert reader.answer(question.text, only[:-1]) != question.answer


def test_a_seed_gives_the_same_world_and_another_seed_another() -> None:
    assert make_world(5) == make_world(5)
    assert make_world(5).steps != make_world(6).steps


def test_every_result_answers_a_call_and_follows_it() -> None:
    world = make_world(2)
    calls = {call["id"]: step.seq for step in world.steps for call in step.tool_calls}
    results = [step for step in world.steps if step.role == "tool"]
    assert results
    assert all(calls[step.tool_call_id or ""] == step.group < step.seq for step in results)


def test_held_out_words_are_never_trained_on() -> None:
    train, heldout = make_world(0), make_world(0, "heldout")
    asked = {q.text.split()[-1] for q in train.questions}
    assert asked.isdisjoint({q.text.split()[-1] for q in heldout.questions})
    for table in (SERVICES, PEOPLE, ATTRS, TASKS, KEYS):
        trained = set(names(table, "train"))
        assert trained.isdisjoint(names(table, "heldout"))
    for kind in phrases.QUESTION_KINDS:
        trained = {p.text for p in phrases.questions("train", kind)}
        assert trained.isdisjoint(p.text for p in phrases.questions("heldout", kind))


def test_what_a_view_leaves_out_the_reader_does_not_know() -> None:
    environment = Environment(make_world(4))
    for question in environment.world.questions:
        gone = [
            DROP if {s.seq for s in c.unit.steps} & set(question.evidence) else KEEP
            for c in environment.candidates
        ]
        assert not environment.is_correct(question, gone)


def test_a_quoted_step_is_read_like_any_other_and_in_the_order_of_the_log() -> None:
    fact = "The port of billing is now {}."
    later = {"role": "user", "content": fact.format(2), "cursors": ["9"]}
    block = f"<recalled-1>\n[3 user 2026-01-01T00:00:00Z]\n> {fact.format(1)}\n</recalled-1>"
    quoted = {"role": "user", "content": block, "cursors": ["3"]}
    question = "What is the port of billing now?"
    assert reader.answer(question, [later, quoted]) == "2"
    assert reader.answer(question, [quoted]) == "1"


def test_labels_want_what_the_answer_needs_and_little_else() -> None:
    right = []
    for seed in range(4):
        environment = Environment(make_world(seed))
        for question in environment.world.questions:
            decisions = [
                Decision(action, 1.0, "") for action in leave_one_out(environment, question)
            ]
            right.append(environment.is_correct(question, decisions))
            assert environment.tokens(decisions) < 0.2 * environment.world.tokens
    # Not all: of a fact stated twice neither statement is missed.
    assert sum(right) / len(right) > 0.85


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="train, heldout"):
        make_world(0, "test")
