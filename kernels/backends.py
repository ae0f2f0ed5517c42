"""Which backend computes each op on this machine, why, and its error against the reference.

A case is a model of one layer with random weights in which all but the op in question is disabled:
the output projections of the others are zero. The reference is transformers' eager model in float32;
for LoRA, the same model with the adapter merged into its weights. Logits are compared, prefilled and
decoded through the paged cache. Left out: speed (the benches), and sampling, whose reference lives
with the engine.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from burnish.kernels import attention, experts
from burnish.kernels.cpu import library as native
from burnish.kernels.cpu.support import FAMILIES
from burnish.kernels.cpu.target import TARGET, cpu_lines
from burnish.kernels.formats import Weights
from burnish.kernels.lora import (
    AdapterWeights,
    LoraSpec,
    default_targets,
    init_adapter,
    lora_targets,
)
from burnish.kernels.model import LoadedModel
from burnish.kernels.verify import ALLOWED, PagedDecoder, root_mean_square
from transformers import AutoConfig, AutoModelForCausalLM

TOLERANCE = 1e-3
ROWS, LENGTH = 3, 40
INTERPRETED = 4  # tokens, where Triton's interpreter computes
FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "fma", "asimd", "bf16", "sve")
NO_TOKENIZER = SimpleNamespace(eos_token_id=None)


@dataclass(frozen=True)
class Backend:
    """One op, one backend that computes it here, and its largest error."""

    op: str
    name: str
    reason: str
    error: float
    allowed: float = TOLERANCE

    @property
    def passed(self) -> bool:
        return self.error <= self.allowed


def machine() -> dict[str, str]:
    """What the choice of backends depends on."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    packages = [p for p in ("flash_attn", "triton", "flashinfer") if importlib.util.find_spec(p)]
    cuda = "none"
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        cuda = f"{torch.cuda.get_device_name()}, capability {major}.{minor}"
    return {
        "processor": ", ".join(_flags()) or torch.backends.cpu.get_cpu_capability(),
        "compiler": compiler or "none",
        "native library": _compiled_for() if native.library() else "none",
        "families with a native step": ", ".join(FAMILIES),
        "CUDA": cuda,
        "CUDA kernels": cuda_kernels() or _cuda_missing(),
        "torch": torch.__version__,
        "packages that may help": ", ".join(packages) or "none",
    }


def _compiled_for() -> str:
    assert TARGET is not None
    return f"{TARGET.name}, {TARGET.width} floats to a vector (BURNISH_CPU chooses)"


def _flags() -> list[str]:
    words = {word for line in cpu_lines() for word in line.split()}
    return [flag for flag in FLAGS if flag in words]


def cuda_kernels() -> str | None:
    """Where the CUDA kernels can run here; None if nowhere."""
    if importlib.util.find_spec("triton") is None:
        return None
    if torch.cuda.is_available():
        return "on the device"
    return "interpreted on this CPU" if os.environ.get("TRITON_INTERPRET") == "1" else None


def _cuda_missing() -> str:
    if importlib.util.find_spec("triton") is None:
        return "none: triton is not installed"
    return "none: no CUDA device (TRITON_INTERPRET=1 shows their errors on a CPU)"


def backends(seed: int = 0, weights: Weights = "auto") -> Iterator[Backend]:
    """Every op with every backend in use here: for models with a native step, and for the others; and
    what rounding to `weights`, if that is a format that loses something, does to a whole step."""
    have = native.library() is not None
    chosen: list[tuple[Kind, str, str]] = []
    if where := cuda_kernels():
        chosen.append(("CUDA", "CUDA kernels", where))
    if have:
        chosen.append(("native", "native library", "compiled for this processor"))
    others = "for families without a native step" if have else "there is no native library"
    chosen.append(("PyTorch", "PyTorch", others))
    for op, config, disable, adapted in _cases():
        for kind, name, reason in chosen:
            found, expected = _logits(config, disable, adapted, kind, seed)
            error = float((found - expected).abs().max())
            reason = _reason(op, kind) or reason
            yield Backend(op, name + _detail(op, kind), reason, error)
    if have and weights in ALLOWED:
        op, config, disable, adapted = list(_cases())[-1]
        found, expected = _logits(config, disable, adapted, "native", seed, weights)
        error = root_mean_square(found, expected)
        name, allowed = f"native library, weights in {weights}", ALLOWED[weights].logits
        yield Backend(op, name, "BURNISH_WEIGHTS; by the logits' spread", error, allowed)


def _detail(op: str, kind: Kind) -> str:
    """What computes an op, where there is more to say than the backend's name."""
    known = {
        ("paged attention", "PyTorch"): "scaled_dot_product_attention over gathered pages",
        ("latent attention", "PyTorch"): "the same, keys and values expanded to every head",
        ("grouped experts", "PyTorch"): "one product per expert that has tokens",
        ("LoRA, attention and experts", "PyTorch"): "two low-rank products, a slot per token",
        ("paged attention", "CUDA"): "Triton over the pages in place",
        ("latent attention", "CUDA"): "the same, keys and values expanded to every head",
        ("norm + rope", "CUDA"): "PyTorch's, inside a recorded step",
        ("grouped experts", "CUDA"): "Triton grouped product, no word to the host",
        ("LoRA, attention and experts", "CUDA"): "Triton grouped products by slot",
    }
    return f": {known[op, kind]}" if (op, kind) in known else ""


def _reason(op: str, kind: Kind) -> str | None:
    """Why the backend was chosen, where that differs from op to op."""
    if kind != "CUDA" or cuda_kernels() != "on the device":
        return None
    if op == "norm + rope":
        return "a graph takes away what small launches cost"
    if op == "paged attention":
        from burnish.kernels.cuda.flash import flash_attention

        return f"decode and float32; prompts in half precision: {flash_attention(False)[0]}"
    return None


Kind = Literal["CUDA", "native", "PyTorch"]
Disable = Callable[[Any], None]


def _cases() -> Iterator[tuple[str, Any, Disable, bool]]:
    """Op, config, what disables the other ops, and whether an adapter is in use."""

    def without_mlp(model: Any) -> None:
        _zero(model, "down_proj")

    def without_attention(model: Any) -> None:
        _zero(model, "o_proj")

    def whole(model: Any) -> None:
        pass

    yield "paged attention", _config("llama"), without_mlp, False
    scaled = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0}
    scaled["original_max_position_embeddings"] = 32
    yield "latent attention", _config("deepseek_v3"), without_mlp, False
    yield "norm + rope", _config("qwen3", rope_parameters=scaled), without_mlp, False
    yield "grouped experts", _config("qwen3_moe"), without_attention, False
    yield "LoRA, attention and experts", _config("qwen3_moe"), whole, True
    yield "whole decoder step", _config("qwen3_moe", num_hidden_layers=3), whole, False


def _config(family: str, **more: Any) -> Any:
    shape: dict[str, Any] = {
        "vocab_size": 512,
        "hidden_size": 128,
        "intermediate_size": 160,
        "num_hidden_layers": 1,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
    }
    if family == "deepseek_v3":
        shape |= {"num_key_value_heads": 8, "q_lora_rank": 64, "kv_lora_rank": 48}
        shape |= {"qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 24}
        shape |= {"head_dim": 16, "first_k_dense_replace": 1}  # that of the rotated part
    if family == "qwen3_moe":
        shape |= {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 96}
    return AutoConfig.for_model(family, **{**shape, **more})


def _zero(model: Any, ending: str) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.removesuffix(".weight").endswith(ending):
                parameter.zero_()


@torch.no_grad()
def _logits(
    config: Any,
    disable: Disable,
    adapted: bool,
    kind: Kind,
    seed: int,
    weights: Weights = "float32",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [R, T, V] of a backend, and those of the reference."""
    attention.register()
    experts.register()
    moe = config.model_type == "qwen3_moe"
    built = []
    for ours in (False, True):
        torch.manual_seed(seed)
        own = {"experts_implementation": experts.NAME if ours else "eager"} if moe else {}
        model: Any = AutoModelForCausalLM.from_config(
            config,
            dtype=torch.float32,
            attn_implementation=attention.NAME if ours else "eager",
            **own,
        ).eval()
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0, 1.0 if "embed" in name else parameter.shape[-1] ** -0.5)
        disable(model)
        built.append(model)
    reference, model = built
    if kind != "native" and torch.cuda.is_available():
        model.to("cuda")
    loaded = LoadedModel(model, NO_TOKENIZER, Path(), "")
    reason = None
    if kind != "PyTorch":
        reason = loaded.use_native(weights) if kind == "native" else loaded.use_cuda()
    if reason:
        raise RuntimeError(f"the case was meant for {kind}: {reason}")
    if adapted:
        adapter = _adapter(model, seed)
        loaded.set_adapter(1, adapter)
        _merge(reference, adapter)
    slow = kind == "CUDA" and not torch.cuda.is_available()
    length = INTERPRETED if slow else LENGTH
    tokens = torch.randint(0, config.vocab_size, (ROWS, length))
    decoder = PagedDecoder(loaded, ROWS, length, slot=1 if adapted else 0)
    half = length // 2
    steps = [decoder.step(tokens[:, :half])]
    steps += [decoder.step(tokens[:, at : at + 1]) for at in range(half, length)]
    return torch.cat(steps, dim=1), reference(tokens).logits


def _adapter(model: Any, seed: int) -> AdapterWeights:
    spec = LoraSpec(8, 16.0, default_targets(model))
    fresh = init_adapter(model, spec, seed)
    filled = {
        n: torch.randn_like(t) * 0.1 if "lora_B" in n else t for n, t in fresh.tensors.items()
    }
    return AdapterWeights(spec, filled)


def _merge(model: Any, adapter: AdapterWeights) -> None:
    """Add the adapter to the weights themselves: W + scale * B A."""
    for target in lora_targets(model, adapter.spec.targets):
        a, b = (adapter.tensors[f"{target.name}.lora_{x}.weight"] for x in "AB")
        a, b = target.unpack(a, b, adapter.spec.rank)
        weight = target.module.get_parameter(target.parameter or "weight")
        change = adapter.spec.scale * (b @ a)
        flipped = bool(getattr(target.module, "is_transposed", False))
        weight += change.transpose(1, 2) if flipped else change
