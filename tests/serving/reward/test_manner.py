"""Manner: what of a text its features tell, and what a reward model makes of it."""

import pytest
import torch
from burnish.serving.reward.features import MANNER
from burnish.serving.reward.kernel import MANNER_SCALE, Coordinates
from burnish.serving.reward.manner import NAMES, manner
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.serving.reward_models import fitted

PLAIN = "It is warm today. Take a light coat for the evening."
PUT_OTHERWISE = {
    "lines": "It is warm today.\nTake a light coat for the evening.",
    "list items": "- It is warm today.\n- Take a light coat for the evening.",
    "headings and bold": "# Today\nIt is **warm** today. Take a light coat for the evening.",
    "ends by asking": "It is warm today. Will you take a light coat for the evening?",
    "questions": "Is it warm today? Take a light coat for the evening.",
    "exclamations": "It is warm today! Take a light coat for the evening!",
    "contractions": "It's warm today. You'll take a light coat for the evening.",
    "commas": "It is warm, dry, bright. Take a light coat for the evening.",
    "quotes and brackets": 'It is "warm" (very). Take a light coat for the evening.',
    "digits": "It is 24 degrees today. Take a light coat for 18 o'clock.",
    "capitals": "It is WARM today. Take a light coat for the evening.",
    "words a sentence": "It is warm today, so take a light coat for the evening.",
    "letters a word": "Temperatures are agreeable. Recommendation: evening overcoat.",
}


def told(text: str, tokens: int = 12) -> dict[str, float]:
    return dict(zip(NAMES, manner(text, tokens).tolist(), strict=True))


@pytest.mark.parametrize("name", PUT_OTHERWISE)
def test_more_of_something_is_a_larger_number(name: str):
    assert told(PUT_OTHERWISE[name])[name] > told(PLAIN)[name]


def test_length_is_told_in_doublings():
    assert told(PLAIN, 63)["tokens"] - told(PLAIN, 31)["tokens"] == pytest.approx(1)


@given(st.text(), st.integers(0, 10**6))
def test_any_text_has_a_number_for_each(text: str, tokens: int):
    found = manner(text, tokens)
    assert found.shape == (MANNER,)
    assert torch.isfinite(found).all()


def features(texts: list[str]) -> Tensor:
    """Of answers whose hidden states say nothing."""
    rows = [manner(text, len(text) // 4) for text in texts]
    return torch.cat([torch.zeros(len(rows), 24), torch.stack(rows)], 1)


def test_a_taste_that_hidden_states_do_not_tell_is_learnt():
    days = ("Monday", "Tuesday", "Wednesday", "Thursday")
    asking = [f"On {day} it is closed. Shall I look for another place?" for day in days]
    saying = [f"On {day} it is closed. There may be another place." for day in days]
    model = fitted(features(asking[:3] + saying[:3]), [0.0] * 3 + [1.0] * 3)
    asks, says = model.mean(features([asking[3], saying[3]])).tolist()
    assert says - asks > 0.5


def test_what_no_answer_had_counts_no_more_than_some_deviations():
    known = features([PLAIN, *PUT_OTHERWISE.values()])
    coordinates = Coordinates.fit(known)
    strange = coordinates(features(["!" * 10_000])).answers[:, -MANNER:]
    assert strange.abs().max() == pytest.approx(3 * MANNER_SCALE)
