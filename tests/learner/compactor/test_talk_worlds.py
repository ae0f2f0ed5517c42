"""Simulated talk: held-out words, evidence that states the answer, and a scorer worth its name."""

import asyncio

import pytest
from burnish.learner.compactor.environment import Environment
from burnish.learner.compactor.evaluation import evidence_kept
from burnish.learner.compactor.examples import make_evidence_examples
from burnish.learner.compactor.network import Network
from burnish.learner.compactor.talk_topic import TalkWords
from burnish.learner.compactor.talk_worlds import KINDS, WORDS, make_talk
from burnish.memory.compaction import (
    Action,
    Bm25Policy,
    CompactionPolicy,
    Decision,
    LearnedPolicy,
    RubricPolicy,
)

TABLES = ("chat", "reactions", "changes", "requests", "filler", "errands", "names", "times")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", WORDS)
def test_the_evidence_states_the_answer(kind: str, split: str) -> None:
    world = make_talk(3, kind, split)
    texts = {step.seq: step.content.casefold() for step in world.steps}
    assert world.questions
    for question in world.questions:
        stated = " ".join(texts[seq] for seq in question.evidence)
        for value in filter(None, question.answer.casefold().split(", ")):
            assert value in stated


def test_held_out_talk_shares_no_wording_with_training() -> None:
    train, heldout = WORDS["train"], WORDS["heldout"]
    for table in TABLES:
        assert not set(getattr(train, table)) & set(getattr(heldout, table))

    def wordings(words: TalkWords) -> set[str]:
        return {
            text
            for topic in words.topics
            for part in (
                topic.values,
                topic.leads,
                topic.tells,
                topic.questions,
                topic.own,
                topic.chat,
                topic.advice,
                topic.whens,
                topic.several,
                *topic.exchanges,
            )
            for text in part
        }

    assert not wordings(train) & wordings(heldout)


def test_a_seed_gives_the_same_talk() -> None:
    assert make_talk(5) == make_talk(5)
    assert make_talk(5).steps != make_talk(6).steps
    with pytest.raises(ValueError, match="kind one of"):
        make_talk(5, "monologue")


def test_all_of_the_evidence_earns_all_of_the_credit() -> None:
    for example in make_evidence_examples(Network(16).scorer(), 2, "talk", questions=4):
        whole = dict.fromkeys(example.evidence, Action.KEEP)
        assert example.credit(whole) == 1
        assert example.credit({}) == 0


def test_what_the_view_shows_whole_counts() -> None:
    environment = Environment(make_talk(4))
    question = environment.world.questions[0]
    keep, drop = Decision(Action.KEEP, 1, ""), Decision(Action.DROP, 0, "")
    assert evidence_kept(environment, question, [keep] * len(environment.candidates)) == 1
    floor = {step.seq for step in environment.floor}
    if not floor & set(question.evidence):
        assert evidence_kept(environment, question, [drop] * len(environment.candidates)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_scorer_is_ahead_of_bm25_and_of_the_rubric(kind: str) -> None:
    environments = [Environment(make_talk(800 + n, kind, "heldout")) for n in range(4)]

    def kept(policy: CompactionPolicy) -> float:
        shares = [
            evidence_kept(e, q, asyncio.run(_decide(policy, e, q)))
            for e in environments
            for q in e.world.questions
        ]
        return sum(shares) / len(shares)

    async def _decide(policy, environment, question):
        return await policy.decide(environment.task(question, 0.1))

    assert kept(LearnedPolicy()) > max(kept(Bm25Policy(tail=0.0)), kept(RubricPolicy()))
