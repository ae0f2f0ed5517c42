"""Loading a Hugging Face causal LM onto our attention, experts and LoRA slots.

transformers' own model classes stay: they are the reference, they know every family, and our ops
reach them through its interfaces. `LoadedModel` offers the two ways of running one:
`step` for the engine (flattened tokens over a paged cache) and `forward` for the learner (padded
whole sequences, differentiable in the tensors of the chosen slot).

Left out: sharded loading, quantised weights, encoder-decoders.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from burnish.kernels import attention, experts
from burnish.kernels import native as native_ops
from burnish.kernels.attention import KVPages, PagedBatch
from burnish.kernels.lora import AdapterWeights, check_fits
from burnish.kernels.slots import ActiveSlots, SlotLinear, SlotTable
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

# Below this size fp32 is as fast as bf16 on a CPU, and a request's tokens then do not depend on
# who shares its batch.
FP32_BELOW = 300_000_000


class ModelError(ValueError):
    """A model folder cannot be loaded; the message says why."""


class LoadedModel:
    """A model with its tokenizer, resident adapters, and both ways of running it."""

    def __init__(self, model: Any, tokenizer: Any, path: Path, sha256: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = model.config
        self.path = path
        self.sha256 = sha256
        self.eos_token_ids = _eos_token_ids(model, tokenizer)
        self._active = ActiveSlots()
        # Slots are set on the model and then read by its layers: one forward at a time.
        self._lock = threading.RLock()
        self._adapters: dict[int, AdapterWeights] = {}
        self.native = False  # whether the native library runs attention (and experts) of steps

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def max_model_len(self) -> int:
        """Longest sequence the model was made for, in tokens."""
        return self.config.max_position_embeddings

    @property
    def hidden_token_ids(self) -> frozenset[int]:
        """Tokens that frame text and are not part of it: end of turn, padding, beginning."""
        frame = (
            getattr(self.tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad")
        )
        return self.eos_token_ids | {token for token in frame if token is not None}

    def set_adapter(self, slot: int, weights: AdapterWeights | None) -> None:
        """Fill (or with None clear) an adapter slot >= 1.

        Tensors that require gradients are used live: train them and the next forward sees it.
        Others are taken as they are now. AdapterError if they do not fit the model.
        """
        if slot < 1:
            raise ValueError("slot 0 is the base model")
        fitting = check_fits(self.model, weights) if weights is not None else []
        with self._lock:
            for table in self._tables():
                table.set(slot, None)
            self._adapters.pop(slot, None)
            self._active.scales.pop(slot, None)
            if weights is None:
                return
            rank = weights.spec.rank
            for site in fitting:
                a, b = (self._place(weights.tensors[f"{site.name}.lora_{x}.weight"]) for x in "AB")
                self._table(site.module, site.parameter).set(slot, site.unpack(a, b, rank))
            self._adapters[slot] = weights
            self._active.scales[slot] = (rank, weights.spec.scale)

    def adapter(self, slot: int) -> AdapterWeights | None:
        """What `set_adapter` put into the slot."""
        return self._adapters.get(slot)

    def forward(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor | None = None,
        slot: int = 0,
        hidden: bool = False,
    ) -> Any:
        """Whole sequences: tokens [B, T], mask [B, T] True on real tokens, padded on either side.

        Returns logits [B, T, V], with `hidden` also what entered the output layer [B, T, H].
        Differentiable in the slot's tensors; slot 0 is the base.
        """
        padding = None if mask is None or bool(mask.all()) else mask.bool()
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
        if padding is not None:
            positions = (padding.long().cumsum(1) - 1).clamp_min(0)
        seen: list[torch.Tensor] = []
        head = self.model.get_output_embeddings()
        watch = head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            with self._lock:
                self._active.use(slot)
                logits = self.model(
                    input_ids=tokens, position_ids=positions, padding=padding, use_cache=False
                ).logits
        finally:
            watch.remove()
        return (logits, seen[-1]) if hidden else logits

    def step(
        self,
        tokens: torch.Tensor,
        batch: PagedBatch,
        keep: torch.Tensor,
        slots: int | torch.Tensor = 0,
        present: tuple[int, ...] | None = None,
    ) -> torch.Tensor:
        """One step of the engine: T flattened tokens; logits [len(keep), V] at the tokens `keep`.

        `slots` is one adapter slot for all tokens, or one per token [T]; `present` the distinct
        ones, where known.
        """
        with self._lock, torch.inference_mode():
            self._active.use(slots, present)
            return self.model(
                input_ids=tokens[None],
                position_ids=batch.position[None],
                paged=batch,
                use_cache=False,
                logits_to_keep=keep,
            ).logits[0]

    def new_pages(self, slots: int) -> tuple[KVPages, ...]:
        """An empty cache of `slots` token slots for every layer."""
        config = self.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None)
        width = width or config.hidden_size // config.num_attention_heads

        def empty() -> torch.Tensor:
            shape = (slots, heads, width)
            if self.device.type != "cpu":
                return torch.zeros(shape, dtype=self.dtype, device=self.device)
            # numpy asks the system for zeroed memory, which costs nothing until it is used.
            size = slots * heads * width * self.dtype.itemsize
            return torch.from_numpy(np.zeros(size, np.uint8)).view(self.dtype).view(shape)

        return tuple(KVPages(empty(), empty()) for _ in range(config.num_hidden_layers))

    def use_native(self) -> bool:
        """Run steps on the native library where it covers this model; whether it does."""
        covered = self.dtype == torch.float32 and self.device.type == "cpu"
        self.native = covered and native_ops.library() is not None
        if self.native:
            for module in self.model.modules():
                if native_ops.covers_experts(module):
                    module.native = native_ops.NativeExperts(module)
                    module.native.tables = getattr(module, "lora_tables", {})
        return self.native

    def _place(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.requires_grad:
            return tensor
        return tensor.detach().to(self.device, self.dtype, copy=True)

    def _table(self, module: torch.nn.Module, parameter: str | None) -> SlotTable:
        if parameter is None:
            assert isinstance(module, torch.nn.Linear)
            return SlotLinear.adopt(module, self._active)
        if not hasattr(module, "lora_tables"):
            module.lora_tables = {}  # type: ignore[assignment]
            if "native" in module.__dict__:
                module.native.tables = module.lora_tables  # type: ignore[union-attr]
        tables: dict[str, SlotTable] = module.lora_tables  # type: ignore[assignment]
        return tables.setdefault(parameter, SlotTable(self._active))

    def _tables(self) -> list[SlotTable]:
        tables = []
        for module in self.model.modules():
            if isinstance(module, SlotLinear):
                tables.append(module.table)
            tables.extend(getattr(module, "lora_tables", {}).values())
        return tables


def load_model(
    path: Path | str, *, dtype: str = "auto", device: str = "cpu", native: bool = True
) -> LoadedModel:
    """Load a Hugging Face folder. `dtype` "auto": float32 for small models on a CPU, else its own.

    `native` allows the native library where it covers model, dtype and device; it is compiled on
    first use. Without it the PyTorch reference serves.

    Raises ModelError with one clear sentence for a folder that cannot be served.
    """
    path = Path(path)
    files = sorted(path.glob("*.safetensors"))
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} is not a model folder: it has no config.json")
    if not files:
        raise ModelError(f"{path} has no *.safetensors weights")
    attention.register()
    experts.register()
    try:
        config = AutoConfig.from_pretrained(path)
        tokenizer = AutoTokenizer.from_pretrained(path)
        model: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=_dtype(dtype, device, files),
            attn_implementation=attention.NAME,
            **({"experts_implementation": experts.NAME} if _has_experts(config) else {}),
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"cannot load the model in {path}: {error}") from error
    model = model.to(torch.device(device)).eval().requires_grad_(False)
    loaded = LoadedModel(model, tokenizer, path, _sha256(files))
    if native:
        loaded.use_native()
    return loaded


def _has_experts(config: Any) -> bool:
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    return any(getattr(config, name, None) for name in names)


def _dtype(dtype: str, device: str, files: list[Path]) -> str:
    if dtype != "auto" or device != "cpu":
        return dtype
    # Two bytes per weight is the usual way of storing them.
    small = sum(f.stat().st_size for f in files) < 2 * FP32_BELOW
    return "float32" if small else "auto"


def _eos_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends an answer: generation config, model config and tokenizer may differ."""
    found: set[int] = set()
    for source in (model.generation_config, model.config, tokenizer):
        eos = getattr(source, "eos_token_id", None)
        found.update(eos if isinstance(eos, (list, tuple)) else [] if eos is None else [eos])
    return frozenset(found)


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
