"""Where judged answers lie: of one kind together, whatever they are about, and the strange where they were."""

import torch
from burnish.serving.reward.coordinates import AXES, Coordinates
from burnish.serving.reward.features import MANNER
from torch import Tensor

H, KINDS, TOPICS = 32, 4, 6


def answers(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features of answers to prompts of a few kinds, put in two ways; the kinds and the ways. What each is about
    sets it apart as much."""
    made, of_world = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(99)
    kinds = torch.randint(KINDS, (count,), generator=made)
    ways = torch.randint(2, (count,), generator=made)
    means = torch.randn(KINDS + 2, 2 * H, generator=of_world)
    topics = 0.4 * torch.randn(TOPICS, 2 * H, generator=of_world)

    def about() -> Tensor:
        return torch.randn(count, TOPICS, generator=made) @ topics

    prompts = (means[kinds] + about())[:, :H]
    said = means[KINDS + ways] + about()
    return torch.cat([prompts, said, torch.zeros(count, MANNER)], 1), kinds, ways


def among(likeness: Tensor, alike: Tensor) -> float:
    """How much nearer pairs of one kind are to each other than others, on average."""
    return float(likeness[alike].mean() - likeness[~alike].mean())


def test_prompts_of_one_kind_lie_together():
    coordinates = Coordinates.fit(answers(400)[0])
    new, kinds, _ = answers(200, seed=1)
    prompts = coordinates(new).prompts
    raw = coordinates.tensors["near_prompts"][0]
    of_raw = answers(400)[1]
    same = kinds[:, None] == kinds
    before = among(raw @ raw.T, of_raw[:, None] == of_raw)
    assert among(prompts @ prompts.T, same) > before + 0.2
    assert (prompts @ prompts.T)[same].mean() > 0.9


def test_answers_put_in_one_way_come_nearer_than_answers_put_in_two():
    known, _, of_known = answers(400)
    coordinates = Coordinates.fit(known)
    new, _, ways = answers(200, seed=1)
    before = farther(coordinates.tensors["near_answers"], of_known)
    assert farther(coordinates(new).answers, ways) > before + 0.2


def farther(points: Tensor, ways: Tensor) -> float:
    """How many times as far answers put in two ways are from each other."""
    apart, same = torch.cdist(points, points), ways[:, None] == ways
    return float(apart[~same].mean() / apart[same].mean())


def test_what_is_near_nothing_stays_where_it_is():
    known, *_ = answers(400)
    coordinates = Coordinates.fit(known)
    strange = known[:20].clone()
    strange[:, H : 3 * H] *= -30
    placed = (strange[:, H : 3 * H] - coordinates.tensors["answer_centre"]) @ coordinates.tensors[
        "answer_axes"
    ]
    torch.testing.assert_close(coordinates(strange).answers[:, :AXES], placed)


def test_the_same_answer_lies_at_one_place_whatever_is_placed_beside_it():
    known, *_ = answers(60)
    coordinates = Coordinates.fit(known)
    whole, part = coordinates(known), coordinates(known[10:20])
    torch.testing.assert_close(whole.prompts[10:20], part.prompts)
    torch.testing.assert_close(whole.answers[10:20], part.answers)


def test_one_judgement_is_enough_to_have_a_place():
    known, *_ = answers(1)
    points = Coordinates.fit(known)(known)
    assert torch.isfinite(points.prompts).all()
    assert torch.isfinite(points.answers).all()
