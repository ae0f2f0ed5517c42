"""Logs of names that stand for one another."""

import re

from burnish.learner.compactor.environment import Environment
from burnish.learner.compactor.examples import make_evidence_examples
from burnish.learner.compactor.link_worlds import make_links
from burnish.learner.compactor.network import Network
from burnish.memory.compaction import KEEP


def test_every_statement_of_a_chain_is_evidence_and_names_the_one_before() -> None:
    for seed in range(20):
        world = make_links(seed)
        texts = {step.seq: step.content for step in world.steps}
        for question in world.questions:
            first, *others = (texts[place] for place in question.evidence)
            value = next(word for word in re.findall(r"\w+", question.text) if word in first.split()
                         or word in re.findall(r"\w+", first))  # fmt: skip
            assert value in first
            known = set(re.findall(r"[\w-]+", first))
            for text in others:
                names = set(re.findall(r"[\w-]+", text))
                assert names & known, (question.text, first, text)
                known |= names


def test_a_seed_makes_the_same_log_again() -> None:
    assert make_links(3) == make_links(3)
    assert make_links(3).steps != make_links(4).steps


def test_a_short_list_holds_fewer_candidates_than_a_log() -> None:
    scorer = Network(16).scorer()
    sizes = set()
    for seed in range(6):
        environment = Environment(make_links(seed))
        for example in make_evidence_examples(scorer, seed, "links"):
            assert len(example.features.chosen) <= min(192, len(environment.candidates))
            sizes.add(len(example.features.chosen))
            wanted = {int(p) for p, label in zip(example.features.chosen, example.labels[-1],
                                                  strict=True) if label == KEEP}  # fmt: skip
            assert wanted <= example.evidence
    assert len(sizes) > 2
