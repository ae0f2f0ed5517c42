"""LoRA adapters as others export them: every expert and every projection adapted apart.

Where such a folder has "...experts.3.gate_proj.lora_A", ours adapt the fused parameters of all experts
(lora.py). Gate and up become one adapter of twice the rank: their A one above the other, their B on the
diagonal. An adapter has one rank, so the rest is filled up with zeros, and alpha grows with the rank:
every change of the base stays what it was.

Left out: experts whose fused parameter interleaves gate and up. They are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from burnish.kernels.lora import (
    EXPERTS,
    PREFIX,
    AdapterError,
    AdapterWeights,
    LoraSpec,
    LoraTarget,
    check_fits,
    lora_targets,
    read_adapter,
)
from torch import Tensor, nn

_APART = re.compile(r"\.experts\.\d+\.(gate|up|down)_proj\.")
_NAME = re.compile(r"(.+)\.lora_[AB]\.weight")


def load_exported(folder: Path | str, model: nn.Module) -> AdapterWeights:
    """Read a peft LoRA folder, with experts apart or without any, for `model`; AdapterError if it
    does not fit. What it targets is told by its tensors; others' configs name it in many ways."""
    config, tensors = read_adapter(folder)
    rank, alpha, rslora = config["r"], config["lora_alpha"], bool(config.get("use_rslora"))
    apart = {name: tensor for name, tensor in tensors.items() if _APART.search(name)}
    rest = {name: tensor for name, tensor in tensors.items() if name not in apart}
    targets = tuple(sorted({_leaf(name) for name in rest}))
    if not apart:
        weights = AdapterWeights(LoraSpec(rank, alpha, targets, rslora), rest)
    else:
        wide = 2 * rank
        grown = LoraSpec(wide, alpha * (2**0.5 if rslora else 2), (*targets, *EXPERTS), rslora)
        fused = {name: _widened(name, tensor, wide) for name, tensor in rest.items()}
        for target in lora_targets(model, EXPERTS):
            fused.update(_fused(target, apart, rank))
        weights = AdapterWeights(grown, fused)
        unused = set(apart) - _expert_names(model)
        if unused:
            raise AdapterError(f"the model has no place for {min(unused)}")
    check_fits(model, weights)
    return weights


def _leaf(name: str) -> str:
    found = _NAME.fullmatch(name)
    if found is None:
        raise AdapterError(f"{name} is not the name of a LoRA tensor")
    return found[1].rsplit(".", 1)[-1]


def _widened(name: str, tensor: Tensor, rank: int) -> Tensor:
    """A [r, in] or B [out, r], filled up with zeros to a larger rank."""
    missing = rank - tensor.shape[0 if ".lora_A." in name else 1]
    return nn.functional.pad(tensor, (0, 0, 0, missing) if ".lora_A." in name else (0, missing))


def _experts_path(target: LoraTarget) -> str:
    return target.name.removesuffix(".base_layer")


def _parts(target: LoraTarget) -> tuple[str, ...]:
    return ("gate_proj", "up_proj") if target.parameter == "gate_up_proj" else ("down_proj",)


def _expert_names(model: nn.Module) -> set[str]:
    return {
        f"{_experts_path(target)}.{expert}.{part}.lora_{letter}.weight"
        for target in lora_targets(model, EXPERTS)
        for expert in range(target.experts)
        for part in _parts(target)
        for letter in "AB"
    }


def _fused(target: LoraTarget, apart: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The two tensors of a fused parameter, of twice the rank, from those of its experts."""
    path = _experts_path(target)
    if getattr(target.module, "is_transposed", False):
        raise AdapterError(f"{path.removeprefix(PREFIX)} interleaves gate and up: not supported")
    firsts, seconds = [], []
    for expert in range(target.experts):
        names = [f"{path}.{expert}.{part}.lora_" for part in _parts(target)]
        lacking = [f"{n}{x}.weight" for n in names for x in "AB" if f"{n}{x}.weight" not in apart]
        if lacking:
            raise AdapterError(f"the adapter lacks {lacking[0]}")
        first = torch.cat([apart[f"{name}A.weight"] for name in names])
        second = torch.block_diag(*(apart[f"{name}B.weight"] for name in names))
        firsts.append(_widened(".lora_A.", first, 2 * rank))
        seconds.append(_widened(".lora_B.", second, 2 * rank))
    a, b = torch.stack(firsts), torch.stack(seconds)  # [E, 2r, in], [E, out, 2r]
    return {
        f"{target.name}.lora_A.weight": a.flatten(0, 1),
        f"{target.name}.lora_B.weight": b.permute(1, 2, 0).flatten(1).contiguous(),
    }
