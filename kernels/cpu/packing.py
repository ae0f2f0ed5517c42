"""Packing weight matrices into the native library's layouts: see cpu/native/weights.h and lora.h.

Left out: which matrices a layer has (layers.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from burnish.kernels.cpu.allocation import in_huge_pages
from burnish.kernels.cpu.structs import CLora, CMatrix
from burnish.kernels.cpu.target import WIDTH
from burnish.kernels.rounding import GROUP, to_int4, to_int8
from torch import Tensor

FORMATS = {"float32": 0, "bfloat16": 1, "int8": 2, "int4": 3}
BLOCK = 2 * WIDTH  # outputs


class Packer:
    """Makes the library's structs, and keeps alive the tensors that they point to."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []

    def keep(self, tensor: Tensor | None) -> int | None:
        """Address of a contiguous tensor; None stays None."""
        if tensor is None:
            return None
        self.tensors.append(tensor)
        return tensor.data_ptr()

    def floats(self, tensor: Tensor | None) -> int | None:
        """Address of a float32 copy."""
        return self.keep(None if tensor is None else tensor.detach().float().contiguous())

    def matrix(
        self,
        weight: Tensor | None,
        form: str,
        bias: Tensor | None = None,
        parts: Sequence[int] | None = None,
    ) -> CMatrix:
        """Pack weight [(E,) out, in]; outputs are padded with zeros to whole blocks. `parts`: see
        `LayerWeights`."""
        if weight is None:
            return CMatrix()
        weight = weight.detach().float()
        if form == "int4" and weight.shape[-1] % GROUP:
            form = "int8"  # int4 wants groups of inputs
        packed, scale = pack(weight if weight.ndim == 3 else weight[None], form)
        if bias is not None:
            bias = F.pad(bias.detach().float(), (0, -bias.shape[-1] % BLOCK))
        blocks = -(-weight.shape[-2] // BLOCK)
        halves = [0] * 2 * blocks if parts is None else parts
        return CMatrix(
            self.keep(in_huge_pages(packed)),
            self.keep(scale),
            self.floats(bias),
            self.keep(torch.tensor(halves, dtype=torch.int32)),
            FORMATS[form],
            weight.shape[-1],
            blocks,
        )

    def lora(self, down: Tensor, up: Tensor, scale: float, narrow: bool = False) -> CLora:
        """One projection's adapter: down [E, parts * rank, in], up [E, out, rank]. In bfloat16 if
        `narrow`, or where that is lossless."""
        form = "bfloat16" if narrow or (lossless(down) and lossless(up)) else "float32"
        return CLora(self._down(down, form), self.matrix(up, form), scale)

    def _down(self, weight: Tensor, form: str) -> CMatrix:
        packed = pack_down(weight.detach().float(), form)
        return CMatrix(
            self.keep(packed), format=FORMATS[form], inputs=weight.shape[-1], blocks=packed.shape[1]
        )


def pack(weight: Tensor, form: str) -> tuple[Tensor, Tensor | None]:
    """weight [E, out, in] float32 -> the layout of cpu/native/weights.h, [E, blocks, ...], and scales."""
    weight = F.pad(weight, (0, 0, 0, -weight.shape[1] % BLOCK))
    if form == "int8":
        whole, scale = to_int8(weight, 2)
        return _by_twos(_in_blocks(whole)), _in_blocks(scale).contiguous()
    if form == "int4":
        whole, scale = to_int4(weight.unflatten(2, (-1, GROUP)), 3)
        twos = _by_twos(_in_blocks((whole + 8).to(torch.uint8).flatten(2)))
        packed = twos[..., :WIDTH, :] | twos[..., WIDTH:, :] << 4
        return packed, _in_blocks(scale.flatten(2)).contiguous()
    blocks = _in_blocks(weight)
    if form == "float32":
        return blocks.contiguous(), None
    halves = blocks.to(torch.bfloat16).unflatten(3, (2, WIDTH))
    return halves.transpose(3, 4).contiguous(), None


def _in_blocks(weight: Tensor) -> Tensor:
    """[E, out, n] -> [E, blocks, n, BLOCK]."""
    return weight.unflatten(1, (-1, BLOCK)).transpose(2, 3)


def pack_down(weight: Tensor, form: str) -> Tensor:
    """An adapter's A [E, ranks, in] -> the layout of cpu/native/lora.h: [E, blocks, in, WIDTH], in bfloat16
    with two inputs to a word."""
    weight = F.pad(weight, (0, 0, 0, -weight.shape[1] % WIDTH))
    blocks = weight.unflatten(1, (-1, WIDTH)).transpose(2, 3)  # [E, blocks, in, WIDTH]
    if form == "bfloat16":
        blocks = blocks.to(torch.bfloat16).unflatten(2, (-1, 2)).transpose(3, 4)
    return blocks.contiguous()


def _by_twos(blocks: Tensor) -> Tensor:
    """[E, blocks, in, BLOCK] -> [E, blocks, in / 2, BLOCK, 2]."""
    return blocks.unflatten(2, (-1, 2)).transpose(3, 4).contiguous()


def lossless(weight: Tensor) -> bool:
    """Whether bfloat16 holds every number of a tensor."""
    return torch.equal(weight, weight.to(torch.bfloat16).to(weight.dtype))


def format_of(model: Any) -> str:
    """The smallest format that is lossless for a model: bfloat16 or float32."""
    if model.dtype == torch.bfloat16:
        return "bfloat16"
    return "bfloat16" if all(lossless(p) for p in model.parameters() if p.ndim > 1) else "float32"
