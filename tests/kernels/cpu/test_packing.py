"""Weights packed for the native library: what its bytes stand for."""

import pytest
import torch
from burnish.kernels.cpu.packing import BLOCK, pack
from burnish.kernels.rounding import to_int4, to_int8


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_packed_weights_stand_for_the_rounded_ones(form: str) -> None:
    weight = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    packed, scale = pack(weight, form)
    assert scale is not None
    if form == "int4":
        packed = torch.cat([packed & 15, packed >> 4], dim=-2)
        whole, step = to_int4(weight.unflatten(2, (2, 32)), 3)
    else:
        whole, step = to_int8(weight[:, :, None], 3)
    twos = packed.float() - (8 if form == "int4" else 0)  # [E, blocks, in / 2, BLOCK, 2]
    numbers = twos.transpose(-1, -2).flatten(2, 3)
    back = numbers * scale.repeat_interleave(64 // scale.shape[2], dim=2)  # [E, blocks, in, BLOCK]
    expected = (whole * step).view(2, -1, BLOCK, 64).transpose(2, 3)
    assert torch.equal(back, expected)
