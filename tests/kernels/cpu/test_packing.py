"""Weights packed for the native library: what its bytes stand for."""

import pytest
import torch
from burnish.kernels.cpu.packing import BLOCK, pack


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_quantised_weights_are_the_nearest(form: str) -> None:
    weight = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    packed, scale = pack(weight, form)
    assert scale is not None
    if form == "int4":
        packed = torch.cat([packed & 15, packed >> 4], dim=-2)
    twos = packed.float() - (8 if form == "int4" else 0)  # [E, blocks, in / 2, BLOCK, 2]
    values = twos.transpose(-1, -2).flatten(2, 3)
    step = scale.expand(-1, -1, -1, 32, -1).flatten(2, 3) if form == "int4" else scale
    back = values * step  # [E, blocks, in, BLOCK]
    original = weight.view(2, -1, BLOCK, 64).transpose(2, 3)
    assert ((back - original).abs() <= step / 2 + 1e-6).all()
