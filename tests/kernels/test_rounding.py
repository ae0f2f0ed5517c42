"""Rounded weights: whole numbers in range, near, and nearer than by the plainest rule."""

import torch
from burnish.kernels.rounding import to_int4, to_int8
from hypothesis import given, settings
from hypothesis import strategies as st

SEEDS = st.integers(0, 10_000)


def squared_error(whole: torch.Tensor, scale: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return (whole * scale - truth).square().sum(-1)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_int8_is_the_nearest_of_its_scale(seed: int) -> None:
    weight = torch.randn(3, 40, generator=torch.Generator().manual_seed(seed))
    whole, scale = to_int8(weight, 1)
    assert whole.dtype == torch.int8
    assert ((whole * scale - weight).abs() <= scale / 2 + 1e-6).all()


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(1e-6, 1e6))
def test_int4_is_in_range_and_no_worse_than_even_steps_to_the_largest(
    seed: int, size: float
) -> None:
    groups = torch.randn(50, 32, generator=torch.Generator().manual_seed(seed)) * size
    whole, scale = to_int4(groups, 1)
    assert whole.min() >= -8
    assert whole.max() <= 7
    even = groups.abs().amax(1, keepdim=True) / 7
    plain = squared_error((groups / even).round(), even, groups)
    found = squared_error(whole, scale, groups)
    assert found.sum() < 0.85 * plain.sum()


def test_zeros_stay_zeros() -> None:
    for whole, scale in (to_int8(torch.zeros(2, 32), 1), to_int4(torch.zeros(2, 32), 1)):
        assert torch.equal(whole * scale, torch.zeros(2, 32))
