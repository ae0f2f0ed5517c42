"""The grouped product equals one product per row, for every layout, size and form of weights."""

import pytest
import torch
from burnish.kernels.cpu.packing import BLOCK, pack
from burnish.kernels.cuda.grouped import GroupPlan, Matrices, grouped, quantise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

SIZES = st.sampled_from([8, 16, 40, 64, 72])


def expected(x: Tensor, weight: Tensor, groups: list[int], share: int = 1) -> Tensor:
    return torch.stack([weight[group] @ x[row // share] for row, group in enumerate(groups)])


def stacks(weights: dict[int, Tensor], wide: bool) -> Matrices:
    """Four stacks, of which those that `weights` [E, rank, n] lacks are empty."""
    address, rows = torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int32)
    for stack, weight in weights.items():
        address[stack], rows[stack] = weight.data_ptr(), weight.shape[1]
    device = next(iter(weights.values())).device
    return Matrices(address.to(device), rows.to(device), torch.ones(4, device=device), wide)


def widened(weight: Tensor, scale: Tensor, form: str) -> Tensor:
    """Quantised weights in full: [E, out, in]."""
    pieces = weight.unflatten(2, (scale.shape[2], -1))
    if form == "int4":
        pieces = torch.cat([pieces & 15, pieces >> 4], dim=3).float() - 8
    return (pieces * scale[..., None]).flatten(2)


@settings(max_examples=15, deadline=None)
@given(
    groups=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    inputs=SIZES,
    outputs=SIZES,
    wide=st.booleans(),
    biased=st.booleans(),
    size=st.sampled_from([None, 16, 64]),
)
def test_rows_meet_the_matrix_of_their_group(
    groups, inputs, outputs, wide, biased, size, device
) -> None:
    generator = torch.Generator(device).manual_seed(len(groups))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    share = 2 if len(groups) % 2 == 0 else 1
    x, weight = normal(len(groups) // share, inputs), normal(5, outputs, inputs)
    bias = normal(5, outputs) if biased else None
    stored = weight.mT.contiguous() if wide else weight
    plan = GroupPlan.of(torch.tensor(groups, device=device), 5, size)
    out = normal(len(groups), outputs)
    grouped(x, out, plan, Matrices.of(stored, wide), share, bias)
    truth = expected(x, weight, groups, share)
    truth = truth if bias is None else truth + bias[groups]
    torch.testing.assert_close(out, truth, atol=1e-4, rtol=0)


@pytest.mark.parametrize("form", ["plain", "int8", "int4"])
def test_half_precision_sums_in_full(form: str, device) -> None:
    torch.manual_seed(0)
    groups = [0, 2, 2, 0, 2]
    x = torch.randn(5, 64, device=device).half()
    weight = torch.randn(3, 40, 64, device=device).half()
    full = weight.float() if form == "plain" else widened(*quantise(weight, form))
    plan = GroupPlan.of(torch.tensor(groups, device=device), 3)
    out = grouped(x, x.new_empty(5, 40), plan, Matrices.of(weight, False, form))
    assert out.dtype == torch.float16
    truth = expected(x.float(), full, groups)
    torch.testing.assert_close(out.float(), truth, atol=1e-3, rtol=2**-10)


def test_stacks_of_different_rank_lie_side_by_side_and_empty_ones_add_nothing(device) -> None:
    """Two adapters of ranks 3 and 20 in slots 1 and 3, for two experts each."""
    torch.manual_seed(0)
    ranks = {1: 3, 3: 20}
    pairs = {
        slot: tuple(torch.randn(2, rank, n, device=device) for n in (24, 40))
        for slot, rank in ranks.items()
    }
    down, up = (stacks({s: pair[side] for s, pair in pairs.items()}, bool(side)) for side in (0, 1))
    up.factor[:] = torch.arange(4) / 2
    slots, experts = [0, 1, 3, 3, 2, 1, 9], [0, 1, 0, 1, 1, 1, 0]  # 9: nobody's
    keys = torch.tensor([e * 4 + s if s < 4 else 99 for s, e in zip(slots, experts, strict=True)])
    plan = GroupPlan.of(keys.to(device), 8)
    x, out = torch.randn(7, 24, device=device), torch.randn(7, 40, device=device)
    before = out.clone()
    low = grouped(x, torch.empty(7, 20, device=device), plan, down)
    grouped(low, out, plan, up, add=True)
    for row, (slot, expert) in enumerate(zip(slots, experts, strict=True)):
        change = 0.0
        if slot in pairs:
            a, b = pairs[slot]
            change = slot / 2 * (x[row] @ a[expert].T @ b[expert])
        torch.testing.assert_close(out[row], before[row] + change, atol=1e-4, rtol=0)


@settings(max_examples=8, deadline=None)
@given(
    form=st.sampled_from(["int8", "int4"]),
    inputs=st.sampled_from([32, 64, 96]),
    outputs=SIZES,
    wide=st.booleans(),
)
def test_quantised_weights_are_widened_inside(form, inputs, outputs, wide, device) -> None:
    torch.manual_seed(outputs)
    groups = [0, 2, 2, 0, 2]  # nobody asks for 1
    x, weight = (
        torch.randn(5, inputs, device=device),
        torch.randn(3, outputs, inputs, device=device),
    )
    matrices = Matrices.of(weight.mT.contiguous() if wide else weight, wide, form)
    plan = GroupPlan.of(torch.tensor(groups, device=device), 3)
    out = grouped(x, torch.empty(5, outputs, device=device), plan, matrices)
    truth = expected(x, widened(*quantise(weight, form)), groups)
    torch.testing.assert_close(out, truth, atol=1e-3, rtol=0)
    assert (truth - expected(x, weight, groups)).abs().max() > 1e-3  # it is not the original


def test_int8_and_int4_mean_the_same_numbers_as_on_a_cpu() -> None:
    """packing.py lays bytes out for the CPU's vectors; what they stand for is the same."""
    weight = torch.randn(2, BLOCK, 64, generator=torch.Generator().manual_seed(1))
    for form in ("int8", "int4"):
        twos, scale = pack(weight, form)  # [E, blocks, in / 2, BLOCK, 2]
        assert scale is not None
        if form == "int4":
            twos = torch.cat([twos & 15, twos >> 4], dim=3).float() - 8
        numbers = twos.float().transpose(3, 4).flatten(2, 3)  # [E, 1, in, BLOCK]
        groups = scale.shape[2]
        full = numbers.unflatten(2, (groups, -1)) * scale.view(2, 1, groups, 1, BLOCK)
        ours = widened(*quantise(weight, form))
        assert torch.equal(ours, full.flatten(2, 3).squeeze(1).mT)


def test_inputs_that_int4_cannot_group_become_int8() -> None:
    assert quantise(torch.randn(1, 16, 40), "int4")[2] == "int8"
