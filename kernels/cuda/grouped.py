"""Grouped GEMM in Triton: rows sorted by group, one matrix per group.

An expert is the group of its tokens, and an adapter the group of the tokens that use it. A `GroupPlan`
sorts rows into blocks of one group each, `Matrices` holds the address of each group's matrix. Both are
made on the device, in shapes that do not depend on the data, so a step never waits for the host and can
be recorded. Weights may be int8 or int4 with scales, quantised as in cpu/packing.py: they are widened
tile by tile, and scales are applied after the product.

Left out: quantised inputs, and a backward pass (training runs through PyTorch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from burnish.kernels.rounding import GROUP, to_int4, to_int8
from torch import Tensor


@dataclass(frozen=True)
class GroupPlan:
    """Rows in blocks of one group each. All int32; B blocks, some of them idle at the end."""

    order: Tensor  # [N] rows, sorted by group
    group: Tensor  # [B] group of each block, -1: idle
    first: Tensor  # [B] its first place in `order`
    last: Tensor  # [B] end of its group in `order`
    size: int  # rows a block holds

    @classmethod
    def of(cls, groups: Tensor, count: int, size: int | None = None) -> GroupPlan:
        """The plan for rows of `groups` [N]; rows whose group is not below `count` are left out."""
        rows, device = groups.shape[0], groups.device
        if size is None:
            size = 16 if rows <= 32 * count else 64
        ordered, order = groups.sort(stable=True)
        edges = torch.searchsorted(ordered, torch.arange(count + 1, device=device).to(ordered))
        blocks = (edges.diff() + size - 1) // size
        ends = blocks.cumsum(0)
        line = torch.arange(
            rows // size + min(rows, count), device=device
        )  # enough blocks for any data
        group = torch.searchsorted(ends, line, right=True)
        known = group.clamp_max(count - 1)
        first = edges[known] + (line - ends[known] + blocks[known]) * size
        group = group.where(group < count, -1)
        return cls(order.int(), group.int(), first.int(), edges[known + 1].int(), size)


@dataclass(frozen=True)
class Matrices:
    """S stacks of matrices; group g takes matrix g // S of stack g % S, or nothing from an empty one.

    A stack is contiguous, [E, out, in] or (`wide`) [E, in, out]. Stacks may differ in the number of
    rows of their matrices (adapters' ranks), and in that alone.
    """

    address: Tensor  # [S] int64, 0: empty
    rows: Tensor  # [S] int32
    factor: Tensor  # [S] float32, multiplies the product
    wide: bool = False
    form: str = "plain"  # or int8, int4
    scale: Tensor | None = None  # [E, out, in / inputs per scale] float32
    kept: Any = None  # the tensors that the addresses point to

    @classmethod
    def of(cls, weight: Tensor, wide: bool = False, form: str = "plain") -> Matrices:
        """One stack of weights, in their own dtype or quantised to `form`."""
        scale = None
        if form in ("int8", "int4"):
            weight, scale, form = quantise(weight.transpose(1, 2) if wide else weight, form)
            wide = False
        else:
            form = "plain"
        return cls(
            torch.tensor([weight.data_ptr()], device=weight.device),
            torch.tensor([weight.shape[1]], dtype=torch.int32, device=weight.device),
            torch.ones(1, device=weight.device),
            wide,
            form,
            scale,
            weight,
        )


def quantise(weight: Tensor, form: str) -> tuple[Tensor, Tensor, str]:
    """weight [E, out, in] -> its bytes, its scales [E, out, in / inputs per scale], and the form.

    int8 has a scale per output; int4 one per 32 inputs, and two of those inputs, 16 apart, to a
    byte. Inputs that are no multiple of 32 become int8, as in cpu/packing.py.
    """
    experts, outputs, inputs = weight.shape
    if inputs % GROUP:
        form = "int8"
    grouped = weight.float().unflatten(2, (-1, inputs if form == "int8" else GROUP))
    if form == "int8":
        whole, scale = to_int8(grouped, 3)
    else:
        whole, scale = to_int4(grouped, 3)
        low, high = (whole + 8).to(torch.uint8).chunk(2, dim=3)
        whole = low | high << 4
    return whole.flatten(2).contiguous(), scale.view(experts, outputs, -1), form


def grouped(
    x: Tensor,
    out: Tensor,
    plan: GroupPlan,
    matrices: Matrices,
    share: int = 1,
    bias: Tensor | None = None,
    add: bool = False,
) -> Tensor:
    """out [N, out]: row r becomes (or with `add` gains) its group's matrix times x [N / share, in]
    at r // share, plus the group's `bias` [E, out]. Rows without a group, or whose stack is empty,
    stay as they are."""
    widest, depth = out.shape[1], x.shape[1]
    plain = matrices.form == "plain"
    most = 64 if x.dtype != torch.float32 else 32
    columns = min(64, power_of_two(widest))
    step = min(GROUP if matrices.form == "int4" else most, power_of_two(depth))
    scale = matrices.scale
    kernel: Any = _grouped
    kernel[(plan.group.shape[0], -(-widest // columns))](
        x,
        out,
        plan.order,
        plan.group,
        plan.first,
        plan.last,
        matrices.address,
        matrices.rows,
        matrices.factor,
        x if plain else scale,
        x if bias is None else bias,
        matrices.address.shape[0],
        share,
        x.stride(0),
        out.stride(0),
        widest,
        depth,
        depth if plain else depth // scale.shape[2],  # type: ignore[union-attr]
        BITS=0 if plain else {"int8": 8, "int4": 4}[matrices.form],
        WIDE=matrices.wide,
        BIAS=bias is not None,
        ADD=add,
        ROWS=plan.size,
        COLUMNS=columns,
        STEP=step,
    )
    return out


def power_of_two(size: int, least: int = 16) -> int:
    """The smallest power of two that is at least `size` and `least`."""
    return max(least, 1 << (size - 1).bit_length())


@triton.jit
def _grouped(
    x, out, order, group_of, first_of, last_of,
    address_of, rows_of, factor_of, scales, bias,
    stacks, share, x_stride, out_stride, widest, depth, per_scale,
    BITS: tl.constexpr, WIDE: tl.constexpr, BIAS: tl.constexpr, ADD: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    group = tl.load(group_of + block)
    if group < 0:
        return
    stack = group % stacks
    expert = (group // stacks).to(tl.int64)
    address = tl.load(address_of + stack)
    if address == 0:
        return
    if WIDE:  # the contiguous side is an argument, the other the stack's own
        outputs, inputs = widest, tl.load(rows_of + stack)
    else:
        outputs, inputs = tl.load(rows_of + stack), depth
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    place = tl.load(first_of + block) + tl.arange(0, ROWS)
    mine = place < tl.load(last_of + block)
    row = tl.load(order + place, mask=mine, other=0).to(tl.int64)
    within = column < outputs

    if BITS == 0:
        weight = address.to(tl.pointer_type(x.dtype.element_ty))
    elif BITS == 8:
        weight = address.to(tl.pointer_type(tl.int8))
    else:
        weight = address.to(tl.pointer_type(tl.uint8))
    weight = tl.multiple_of(weight, 16)
    if BITS == 4:
        weight += expert * outputs * (inputs // 2)
    else:
        weight += expert * outputs * inputs

    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for start in range(0, inputs, STEP):
        k = start + tl.arange(0, STEP)
        known = k < inputs
        left = tl.load(
            x + (row // share)[:, None] * x_stride + k[None, :],
            mask=mine[:, None] & known[None, :],
            other=0.0,
        )
        inside = known[:, None] & within[None, :]
        if BITS == 0:
            if WIDE:
                at = k[:, None].to(tl.int64) * widest + column[None, :]
            else:
                at = column[None, :].to(tl.int64) * depth + k[:, None]
            right = tl.load(weight + at, mask=inside, other=0.0)
            total += tl.dot(left, right, input_precision="ieee")
        else:
            if BITS == 8:
                at = column[None, :] * inputs + k[:, None]
                right = tl.load(weight + at, mask=inside, other=0).to(left.dtype)
            else:  # inputs 16 apart share a byte
                at = column[None, :] * (inputs // 2) + start // 2 + (k % 16)[:, None]
                pair = tl.load(weight + at, mask=inside, other=0).to(tl.int32)
                right = ((pair >> ((k // 16 % 2) * 4)[:, None] & 15) - 8).to(left.dtype)
            groups = inputs // per_scale
            spot = (expert * outputs + column) * groups + start // per_scale
            scale = tl.load(scales + spot, mask=within, other=0.0)
            total += tl.dot(left, right, input_precision="ieee") * scale[None, :]

    total *= tl.load(factor_of + stack)
    if BIAS:
        total += tl.load(bias + expert * outputs + column, mask=within, other=0.0)[None, :]
    target = out + row[:, None] * out_stride + column[None, :]
    keep = mine[:, None] & within[None, :]
    if ADD:
        total += tl.load(target, mask=keep, other=0.0)
    tl.store(target, total.to(out.dtype.element_ty), mask=keep)
