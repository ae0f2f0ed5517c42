"""Weights packed for the native library: what its bytes stand for."""

import pytest
import torch
from burnish.kernels.cpu.packing import BLOCK, pack


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_quantised_weights_are_the_nearest(form: str) -> None:
    weight = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    packed, scale = pack(weight, form)
    assert scale is not None
    fours = packed  # [E, blocks, in / 4, BLOCK, 4]
    if form == "int4":
        fours = torch.cat([packed & 15, packed >> 4], dim=-2)
    fours = fours[..., [0, 2, 1, 3]]  # of four inputs the order is 0, 2, 1, 3
    values = fours.transpose(-1, -2).flatten(2, 3).float() - (8 if form == "int4" else 128)
    step = scale.expand(-1, -1, -1, 32, -1).flatten(2, 3) if form == "int4" else scale
    back = values * step  # [E, blocks, in, BLOCK]
    original = weight.view(2, -1, BLOCK, 64).transpose(2, 3)
    assert ((back - original).abs() <= step / 2 + 1e-6).all()
