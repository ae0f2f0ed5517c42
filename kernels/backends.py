"""Which way each op takes on this machine, why, and how far it is from the plain reference.

The cases are models of one layer with random weights and all but the op at hand switched off: the
output projection of what is not asked about is zero. The truth is transformers' eager model in
float32; for LoRA, the same model with the adapter merged into its weights. What is compared are
logits, prefilled and decoded through the paged cache. Left out: speed (the benches), and sampling,
whose reference lives with the engine.
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
from burnish.kernels.cpu.step import FAMILIES
from burnish.kernels.lora import AdapterWeights, LoraSpec, default_targets, init_adapter, sites
from burnish.kernels.model import LoadedModel
from burnish.kernels.verify import Cache
from transformers import AutoConfig, AutoModelForCausalLM

TOLERANCE = 1e-3
ROWS, LENGTH = 3, 40
INTERPRETED = 4  # tokens, where Triton's interpreter computes
FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "fma", "asimd", "bf16", "sve")
NOBODY = SimpleNamespace(eos_token_id=None)


@dataclass(frozen=True)
class Way:
    """One op, one way of computing it that is taken here, and its largest error met."""

    op: str
    way: str
    why: str
    error: float
    allowed: float = TOLERANCE

    @property
    def passed(self) -> bool:
        return self.error <= self.allowed


def machine() -> dict[str, str]:
    """What the choice depends on."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    packages = [p for p in ("flash_attn", "triton", "flashinfer") if importlib.util.find_spec(p)]
    cuda = "none"
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        cuda = f"{torch.cuda.get_device_name()}, capability {major}.{minor}"
    return {
        "processor": ", ".join(_flags()) or torch.backends.cpu.get_cpu_capability(),
        "compiler": compiler or "none",
        "native library": "loaded" if native.library() else "none",
        "families with a native step": ", ".join(FAMILIES),
        "CUDA": cuda,
        "CUDA kernels": cuda_kernels() or _why_no_cuda(),
        "torch": torch.__version__,
        "packages that may help": ", ".join(packages) or "none",
    }


def _flags() -> list[str]:
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return [flag for flag in FLAGS if flag in words]


def cuda_kernels() -> str | None:
    """Where the CUDA kernels can run here; None: nowhere."""
    if importlib.util.find_spec("triton") is None:
        return None
    if torch.cuda.is_available():
        return "on the device"
    return "interpreted on this CPU" if os.environ.get("TRITON_INTERPRET") == "1" else None


def _why_no_cuda() -> str:
    if importlib.util.find_spec("triton") is None:
        return "none: triton is not installed"
    return "none: no CUDA device (TRITON_INTERPRET=1 shows their errors on a CPU)"


def ways(seed: int = 0) -> Iterator[Way]:
    """Every op with every way it is taken: by models with a native step, and by the others."""
    have = native.library() is not None
    chosen: list[tuple[Kind, str, str]] = []
    if where := cuda_kernels():
        chosen.append(("CUDA", "CUDA kernels", where))
    if have:
        chosen.append(("native", "native library", "compiled for this processor"))
    others = "for families without a native step" if have else "there is no native library"
    chosen.append(("PyTorch", "PyTorch", others))
    for op, config, spoil, adapted in _cases():
        for kind, way, why in chosen:
            way, why = way + _detail(op, kind), _reason(op, kind) or why
            yield Way(op, way, why, _error(config, spoil, adapted, kind, seed))


def _detail(op: str, kind: Kind) -> str:
    """The call behind a way."""
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
    """Why, where that differs from op to op."""
    if kind != "CUDA" or cuda_kernels() != "on the device":
        return None
    if op == "norm + rope":
        return "a graph takes away what small launches cost"
    if op == "paged attention":
        from burnish.kernels.cuda.attention import flash_attention

        return f"decode and float32; prompts in half precision: {flash_attention(False)[0]}"
    return None


Kind = Literal["CUDA", "native", "PyTorch"]
Spoil = Callable[[Any], None]


def _cases() -> Iterator[tuple[str, Any, Spoil, bool]]:
    """Op, config, what is switched off, and whether an adapter is in use."""

    def no_mlp(model: Any) -> None:
        _zero(model, "down_proj")

    def no_attention(model: Any) -> None:
        _zero(model, "o_proj")

    def nothing(model: Any) -> None:
        pass

    yield "paged attention", _config("llama"), no_mlp, False
    scaled = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0}
    scaled["original_max_position_embeddings"] = 32
    yield "latent attention", _config("deepseek_v3"), no_mlp, False
    yield "norm + rope", _config("qwen3", rope_parameters=scaled), no_mlp, False
    yield "grouped experts", _config("qwen3_moe"), no_attention, False
    yield "LoRA, attention and experts", _config("qwen3_moe"), nothing, True
    yield "whole decoder step", _config("qwen3_moe", num_hidden_layers=3), nothing, False


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
def _error(config: Any, spoil: Spoil, adapted: bool, kind: Kind, seed: int) -> float:
    """Largest difference of logits between a way and the reference."""
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
        spoil(model)
        built.append(model)
    reference, model = built
    if kind != "native" and torch.cuda.is_available():
        model.to("cuda")
    loaded = LoadedModel(model, NOBODY, Path(), "")
    reason = None
    if kind != "PyTorch":
        reason = loaded.use_native("float32") if kind == "native" else loaded.use_cuda()
    if reason:
        raise RuntimeError(f"the case was meant for {kind}: {reason}")
    if adapted:
        adapter = _adapter(model, seed)
        loaded.set_adapter(1, adapter)
        _merge(reference, adapter)
    slow = kind == "CUDA" and not torch.cuda.is_available()
    length = INTERPRETED if slow else LENGTH
    tokens = torch.randint(0, config.vocab_size, (ROWS, length))
    cache = Cache(loaded, ROWS, length, slot=1 if adapted else 0)
    half = length // 2
    steps = [cache.feed(tokens[:, :half])]
    steps += [cache.feed(tokens[:, at : at + 1]) for at in range(half, length)]
    return float((torch.cat(steps, dim=1) - reference(tokens).logits).abs().max())


def _adapter(model: Any, seed: int) -> AdapterWeights:
    spec = LoraSpec(8, 16.0, default_targets(model))
    fresh = init_adapter(model, spec, seed)
    filled = {
        n: torch.randn_like(t) * 0.1 if "lora_B" in n else t for n, t in fresh.tensors.items()
    }
    return AdapterWeights(spec, filled)


def _merge(model: Any, adapter: AdapterWeights) -> None:
    """Add the adapter to the weights themselves: W + scale * B A."""
    for site in sites(model, adapter.spec.targets):
        a, b = (adapter.tensors[f"{site.name}.lora_{x}.weight"] for x in "AB")
        a, b = site.unpack(a, b, adapter.spec.rank)
        weight = site.module.get_parameter(site.parameter or "weight")
        change = adapter.spec.scale * (b @ a)
        flipped = bool(getattr(site.module, "is_transposed", False))
        weight += change.transpose(1, 2) if flipped else change
