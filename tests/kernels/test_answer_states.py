"""Hidden states of answers to one prompt are those of each answer read with its prompt by itself."""

import pytest
import torch
from burnish.kernels.answer_states import answer_states
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from hypothesis import given
from hypothesis import strategies as st

TOKENS = st.integers(5, 290)
ANSWERS = st.lists(st.lists(TOKENS, min_size=1, max_size=40), min_size=1, max_size=5)


@pytest.fixture(scope="module", params=["native", "pytorch"])
def model(request: pytest.FixtureRequest, tiny_model) -> LoadedModel:
    return load_model(tiny_model, native=request.param == "native")


@given(
    prompt=st.lists(TOKENS, min_size=1, max_size=50), answers=ANSWERS, most=st.sampled_from([7, 64])
)
def test_they_are_those_of_each_answer_by_itself(model, prompt, answers, most):
    pieces = list(answer_states(model, prompt, answers, 1, most))
    asked, *said = torch.cat(pieces).split([len(prompt), *map(len, answers)])
    alone = [model.states([[*prompt, *answer]], 1)[0] for answer in answers]
    torch.testing.assert_close(asked, alone[0][: len(prompt)], rtol=1e-4, atol=1e-5)
    for states, whole in zip(said, alone, strict=True):
        torch.testing.assert_close(states, whole[len(prompt) :], rtol=1e-4, atol=1e-5)


def test_no_piece_is_larger_than_what_was_asked_for(tiny_model):
    model = load_model(tiny_model)
    pieces = list(answer_states(model, [7] * 100, [[8] * 30] * 3, 1, 32))
    assert max(map(len, pieces)) <= 32
    assert sum(map(len, pieces)) == 100 + 3 * 30
