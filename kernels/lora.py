"""LoRA adapters in peft's format: reading, writing, initialising, and the modules they target.

An adapter folder holds adapter_config.json and adapter_model.safetensors, and loads into peft's
own `PeftModel` as well. Tensors keep peft's names throughout, from the
learner through the registry to the engine. Two conventions of peft:

* fused experts [E, out, in] are adapted per expert, stored flat: `lora_A` [E*r, in] with the expert
  outermost, `lora_B` [out, r*E] with the expert innermost;
* several parameters of one module nest: the first is "...experts.base_layer.lora_A", the last
  "...experts.lora_A".

Left out: DoRA, per-module ranks, trained biases. Such a folder is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LATENT = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")  # MLA's own
DENSE = ("gate_proj", "up_proj", "down_proj")
EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")


class AdapterError(ValueError):
    """An adapter folder cannot be read, or does not fit the model."""


@dataclass(frozen=True)
class LoraSpec:
    """Hyperparameters of an adapter. Targets are module or parameter names, matched at the end of the path."""

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ATTENTION + EXPERTS
    rslora: bool = False

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


@dataclass(frozen=True)
class AdapterWeights:
    """An adapter in memory: tensors under peft's own names, in peft's own layout."""

    spec: LoraSpec
    tensors: Mapping[str, torch.Tensor]

    @property
    def live(self) -> bool:
        """Whether the tensors are being trained."""
        return any(tensor.requires_grad for tensor in self.tensors.values())

    def trainable(self) -> AdapterWeights:
        """A float32 copy whose tensors collect gradients."""
        copies = {n: t.detach().float().clone() for n, t in self.tensors.items()}
        return AdapterWeights(self.spec, {n: t.requires_grad_() for n, t in copies.items()})

    def detached(self) -> AdapterWeights:
        """A frozen copy: later training steps do not change it."""
        return AdapterWeights(self.spec, {n: t.detach().clone() for n, t in self.tensors.items()})


@dataclass(frozen=True)
class LoraTarget:
    """What an adapter changes: a linear layer, or one 3-D parameter of an experts module."""

    name: str  # peft's name of the adapted thing, without ".lora_A.weight"
    module: nn.Module
    parameter: str | None  # None: the module is a Linear
    experts: int  # 1 for a Linear
    inputs: int
    outputs: int

    def shapes(self, rank: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Stored shapes of lora_A and lora_B."""
        return (self.experts * rank, self.inputs), (self.outputs, rank * self.experts)

    def unpack(
        self, a: torch.Tensor, b: torch.Tensor, rank: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stored tensors -> A [(E,) r, in], B [(E,) out, r]; views, so gradients flow back."""
        if self.parameter is None:
            return a, b
        by_expert = b.reshape(self.outputs, rank, self.experts).permute(2, 0, 1)
        return a.reshape(self.experts, rank, self.inputs), by_expert


def _ends(path: str, targets: tuple[str, ...]) -> bool:
    return any(path == target or path.endswith("." + target) for target in targets)


def lora_targets(model: nn.Module, targets: tuple[str, ...]) -> Iterator[LoraTarget]:
    """All modules and parameters of `model` that `targets` name, in the model's order."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and _ends(path, targets):
            yield LoraTarget(
                PREFIX + path, module, None, 1, module.in_features, module.out_features
            )
            continue
        named = [
            (name, parameter)
            for name, parameter in module.named_parameters(recurse=False)
            if parameter.ndim == 3 and _ends(f"{path}.{name}", targets)
        ]
        for depth, (name, parameter) in enumerate(named, start=1):
            nesting = ".base_layer" * (len(named) - depth)
            experts, first, second = parameter.shape
            flipped = bool(getattr(module, "is_transposed", False))  # [E, in, out]
            inputs, outputs = (first, second) if flipped else (second, first)
            yield LoraTarget(PREFIX + path + nesting, module, name, experts, inputs, outputs)


def default_targets(model: nn.Module) -> tuple[str, ...]:
    """Attention and fused experts where there are any, else attention and the dense MLP."""
    has_experts = any(target.parameter for target in lora_targets(model, EXPERTS))
    attention = tuple(name for name in ATTENTION + LATENT if any(lora_targets(model, (name,))))
    return attention + (EXPERTS if has_experts else DENSE)


def init_adapter(model: nn.Module, spec: LoraSpec, seed: int) -> AdapterWeights:
    """A new adapter, which changes nothing yet: A is random (peft's initialisation), B is zero."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for target in lora_targets(model, spec.targets):
        shape_a, shape_b = target.shapes(spec.rank)
        bound = 1 / math.sqrt(target.inputs)  # kaiming uniform with a = sqrt(5)
        a = torch.rand(shape_a, generator=generator) * 2 * bound - bound
        tensors[f"{target.name}.lora_A.weight"] = a
        tensors[f"{target.name}.lora_B.weight"] = torch.zeros(shape_b)
    if not tensors:
        raise AdapterError(f"nothing in the model is called {', '.join(spec.targets)}")
    return AdapterWeights(spec, tensors)


def check_fits(model: nn.Module, weights: AdapterWeights) -> list[LoraTarget]:
    """The targets the weights belong to; AdapterError if a name or a shape does not match."""
    fitting = []
    left = set(weights.tensors)
    for target in lora_targets(model, weights.spec.targets):
        for letter, want in zip("AB", target.shapes(weights.spec.rank), strict=True):
            name = f"{target.name}.lora_{letter}.weight"
            if name not in weights.tensors:
                raise AdapterError(f"the adapter lacks {name}")
            got = tuple(weights.tensors[name].shape)
            if got != want:
                raise AdapterError(f"{name} has shape {got}, the model wants {want}")
            left.discard(name)
        fitting.append(target)
    if left:
        raise AdapterError(f"the model has no place for {min(left)}")
    if not fitting:
        raise AdapterError("the adapter adapts nothing in this model")
    return fitting


def save_adapter(weights: AdapterWeights, folder: Path | str, base_model: str) -> Path:
    """Write peft's two files; returns the folder. `base_model` names the base in the config."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {n: t.detach().to("cpu").contiguous() for n, t in weights.tensors.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    spec = weights.spec
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "use_rslora": spec.rslora,
        "target_modules": [t for t in spec.targets if ".experts." not in t],
        "target_parameters": [t for t in spec.targets if ".experts." in t] or None,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    return folder


def load_adapter(folder: Path | str) -> AdapterWeights:
    """Read a peft LoRA folder; AdapterError names what is missing or not supported."""
    config, tensors = read_adapter(folder)
    modules = config.get("target_modules") or []
    if isinstance(modules, str):
        raise AdapterError(f"{folder}: target_modules must be a list, not a pattern")
    targets = (*sorted(modules), *(config.get("target_parameters") or ()))
    spec = LoraSpec(config["r"], config["lora_alpha"], targets, bool(config.get("use_rslora")))
    return AdapterWeights(spec, tensors)


def read_adapter(folder: Path | str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The config and the tensors of a peft LoRA folder as they stand, if nothing in it is refused."""
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text())
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise AdapterError(f"cannot read the adapter in {folder}: {error}") from error
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{folder} holds a {config.get('peft_type')} adapter, not LORA")
    refused = {
        "use_dora": bool(config.get("use_dora")),
        "rank_pattern": bool(config.get("rank_pattern")),
        "alpha_pattern": bool(config.get("alpha_pattern")),
        "fan_in_fan_out": bool(config.get("fan_in_fan_out")),
        "lora_bias": bool(config.get("lora_bias")),
        "bias": config.get("bias", "none") != "none",
        "modules_to_save": bool(config.get("modules_to_save")),
    }
    for key, used in refused.items():
        if used:
            raise AdapterError(f"{folder}: adapters with {key} are not supported")
    return config, tensors
