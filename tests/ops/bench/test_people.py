"""Simulated people: what they like is on the scale of the base's answers, and votes are noisy."""

import itertools
import random

import pytest
from burnish.ops.bench.lib.everyday_prompts import load_prompts
from burnish.ops.bench.lib.people import draw_people, single_taste, topic_of
from burnish.ops.bench.lib.taste import FEATURES
from hypothesis import given
from hypothesis import strategies as st

WORDS = [
    "Boil",
    "the",
    "rice",
    "and",
    "let",
    "it",
    "rest,",
    "perhaps",
    "with",
    "salt!",
    "Don't",
    "stir",
    "it.",
    "Which",
    "rice",
    "is",
    "it?",
]


def answers(seed: int, count: int = 200) -> list[str]:
    """Texts that differ in every feature."""
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        text = " ".join(rng.choices(WORDS, k=rng.randint(3, 80)))
        if rng.random() < 0.3:
            text = f"- {text}\n- {text}"
        texts.append(f"Hello! {text}" if rng.random() < 0.3 else text)
    return texts


@given(
    feature=st.sampled_from(FEATURES), sign=st.sampled_from([-1.0, 1.0]), seed=st.integers(0, 99)
)
def test_the_majority_likes_half_of_the_base(feature, sign, seed):
    texts = answers(seed, 40)
    topic = topic_of(texts, single_taste(feature, sign))
    assert sum(map(topic.liked, texts)) / len(texts) == pytest.approx(0.5, abs=1e-6)


def test_more_to_ones_taste_is_liked_more():
    texts = answers(0)
    short, long = "Boil it.", " ".join(WORDS * 5)
    assert topic_of(texts, single_taste("length", 1)).liked(long) > 0.75
    assert topic_of(texts, single_taste("length", -1)).liked(short) > 0.75
    assert topic_of(texts, single_taste("length", -1)).liked(long) < 0.25


def test_most_people_share_a_topics_taste_and_some_deviate():
    people = draw_people({"cooking": answers(0), "travel": answers(1)}, people=200, deviate=0.2)
    for name, topic in people.topics.items():
        same = sum(person.tastes[name] == topic.majority for person in people.everyone)
        assert 140 <= same <= 180


def test_tastes_of_topics_resemble_one_another():
    topics = {str(number): answers(0, 40) for number in range(40)}
    products = []
    for seed in range(5):
        tastes = [topic.majority for topic in draw_people(topics, seed=seed).topics.values()]
        pairs = itertools.pairwise(tastes)
        products += [sum(a * b for a, b in zip(*pair, strict=True)) for pair in pairs]
    assert 0.3 < sum(products) / len(products) < 0.7


def test_people_are_a_function_of_the_seed():
    texts = {"cooking": answers(0)}
    assert draw_people(texts, seed=3) == draw_people(texts, seed=3)
    assert draw_people(texts, seed=3).everyone != draw_people(texts, seed=4).everyone


@pytest.mark.parametrize("flip", [0.0, 0.2])
def test_one_vote_in_so_many_is_on_the_wrong_button(flip):
    people = draw_people({"cooking": answers(0)}, people=1, deviate=0, flip=flip)
    text = max(answers(1), key=lambda text: people.liked("cooking", text))
    meant = people.liked("cooking", text)
    rng = random.Random(0)
    ups = sum(people.vote(people.everyone[0], "cooking", text, rng) for _ in range(4000)) / 4000
    assert ups == pytest.approx(meant * (1 - flip) + (1 - meant) * flip, abs=0.03)


def test_there_are_300_prompts_to_learn_from_and_100_others():
    train, heldout = load_prompts("train"), load_prompts("heldout")
    assert (len(train), len(heldout)) == (300, 100)
    assert len({prompt.text.casefold() for prompt in train + heldout}) == 400
    assert {prompt.family for prompt in heldout[:10]} == {prompt.family for prompt in train}
