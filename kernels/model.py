"""Loading a Hugging Face causal LM onto our attention, experts and LoRA slots.

transformers' own model classes stay: they are the reference, they know every family, and our ops
reach them through its interfaces. `LoadedModel` offers two ways of running one: `step` for the
engine (flattened tokens over a paged cache), on the native library where it covers the model, and
`forward` for the learner (padded whole sequences, differentiable in the chosen slot's tensors).

Left out: sharded loading, quantised weights, encoder-decoders.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from burnish.kernels import attention, experts, recurrent
from burnish.kernels.attention import KVPages, PagedBatch
from burnish.kernels.cpu.allocation import zeroed
from burnish.kernels.cpu.packing import Weights
from burnish.kernels.cpu.step import NativeStep, PackedAdapter, Pages, why_not
from burnish.kernels.cpu.training import NativeTraining, why_not_train
from burnish.kernels.folder import (
    ModelError,
    ModelFolder,
    available_bytes,
    end_tokens,
    frame_tokens,
    one_line,
    open_folder,
)
from burnish.kernels.forward_batch import ForwardBatch, SamplerOutput, SamplingMetadata
from burnish.kernels.lora import AdapterWeights, Site, check_fits
from burnish.kernels.recurrent import RowStates
from burnish.kernels.slots import ActiveSlots, SlotLinear, SlotTable
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

if TYPE_CHECKING:
    from burnish.kernels.cuda.graphs import Recorder
    from burnish.kernels.cuda.step import CudaStep

# Below this size fp32 is as fast as bf16 on a CPU, and a request's tokens then do not depend on
# who shares its batch.
FP32_BELOW = 300_000_000


@dataclass(frozen=True)
class PreparedAdapter:
    """An adapter on its way into a slot: per site A and B, and all of it packed."""

    weights: AdapterWeights
    pairs: list[tuple[Site, tuple[torch.Tensor, torch.Tensor]]]
    packed: PackedAdapter | None


class LoadedModel:
    """A model with its tokenizer, resident adapters, and both ways of running it."""

    def __init__(self, model: Any, tokenizer: Any, path: Path, sha256: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = model.config
        self.path = path
        self.sha256 = sha256
        self.eos_token_ids = end_tokens(model.generation_config, model.config, tokenizer)
        self._active = ActiveSlots()
        # Slots are set on the model and then read by its layers: one forward at a time.
        self._lock = threading.RLock()
        self._adapters: dict[int, AdapterWeights] = {}
        self._filled: dict[int, list[SlotTable]] = {}  # by slot
        self.native: NativeStep | None = None
        self.cuda: CudaStep | None = None
        # Layers with a running state: no prefix can be shared and no token taken back.
        self.recurrent = recurrent.keeps_state(model.config)

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
        return frame_tokens(self.tokenizer, self.eos_token_ids)

    def prepare_adapter(self, weights: AdapterWeights) -> PreparedAdapter:
        """All the work of `set_adapter` that may run beside a forward.

        Tensors that require gradients are used live: train them and the next forward sees it.
        Others are taken as they are now. AdapterError if they do not fit the model.
        """
        pairs = []
        for site in check_fits(self.model, weights):
            a, b = (self._place(weights.tensors[f"{site.name}.lora_{x}.weight"]) for x in "AB")
            a, b = site.unpack(a, b, weights.spec.rank)
            if self.cuda is not None and not b.requires_grad:
                b = b.mT.contiguous().mT  # as the kernels read it
            pairs.append((site, (a, b)))
        packs = self.native is not None and not weights.live
        packed = self.native.pack_adapter(weights) if self.native and packs else None
        return PreparedAdapter(weights, pairs, packed)

    def set_adapter(self, slot: int, adapter: AdapterWeights | PreparedAdapter | None) -> None:
        """Fill (or with None clear) an adapter slot >= 1; see `prepare_adapter`."""
        if slot < 1:
            raise ValueError("slot 0 is the base model")
        if isinstance(adapter, AdapterWeights):
            adapter = self.prepare_adapter(adapter)
        with self._lock:
            for table in self._filled.pop(slot, ()):
                table.set(slot, None)
            self._adapters.pop(slot, None)
            self._active.scales.pop(slot, None)
            if self.native is not None:
                self.native.set_adapter(slot, adapter.packed if adapter else None)
            if self.cuda is not None:
                self.cuda.banks.clear(slot)
            if adapter is None:
                return
            spec = adapter.weights.spec
            pairs = [(self._table(s.module, s.parameter), pair) for s, pair in adapter.pairs]
            for table, pair in pairs:
                table.set(slot, pair)
            self._filled[slot] = [table for table, _ in pairs]
            if self.cuda is not None and not adapter.weights.live:
                self.cuda.banks.fill(slot, pairs, spec.rank, spec.scale)
            self._adapters[slot] = adapter.weights
            self._active.scales[slot] = (spec.rank, spec.scale)

    def adapter(self, slot: int) -> AdapterWeights | None:
        """What `set_adapter` put into the slot."""
        return self._adapters.get(slot)

    def forward(
        self, tokens: torch.Tensor, mask: torch.Tensor | None = None, slot: int = 0
    ) -> torch.Tensor:
        """Whole sequences: tokens [B, T], mask [B, T] True on real tokens, padded on either side.

        Returns logits [B, T, V]. Differentiable in the slot's tensors; slot 0 is the base.
        """
        padding = None if mask is None or bool(mask.all()) else mask.bool()
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
        if padding is not None:
            positions = (padding.long().cumsum(1) - 1).clamp_min(0)
        with self._lock:
            self._active.use(slot)
            masked = {"attention_mask" if self.recurrent else "padding": padding}
            return self.model(
                input_ids=tokens, position_ids=positions, use_cache=False, **masked
            ).logits

    def step(
        self,
        feed: ForwardBatch,
        table: np.ndarray,
        pages: Any,
        draws: SamplingMetadata | None = None,
    ) -> tuple[torch.Tensor | None, SamplerOutput | None]:
        """One step of the engine over `pages` (from `new_pages`) and their `table` [rows, reach].

        Returns the logits [K, V] of the kept tokens and what was drawn for them. Only the native
        library draws, and then may take several steps; it returns logits only where a row is to be
        drawn by somebody else.
        """
        if self.native is None:
            return self._step(feed, table, pages), None
        wanted = draws is None or bool(draws.skip.any())
        logits = self.native.empty_logits(len(feed.keep)) if wanted else None
        with self._lock:
            drawn = self.native(feed, table, pages, draws=draws, logits=logits)
        return None if logits is None else logits[:, : self.native.vocab], drawn

    def _step(self, feed: ForwardBatch, table: np.ndarray, pages: Any) -> torch.Tensor:
        """The PyTorch way, with the CUDA kernels inside where they serve."""
        if self.recurrent:
            with self._lock, torch.inference_mode():
                return recurrent.step(self.model, feed, pages, self._active.use)
        present = tuple(set(feed.slots.tolist()))
        live = any(self._adapters[s].live for s in present if s in self._adapters)
        if self.cuda is not None and not live:
            with self._lock, torch.inference_mode():
                return self.cuda(feed, table, pages)
        batch = PagedBatch(pages, *map(self._put, (table, feed.rows, feed.starts, feed.counts)))
        with self._lock, torch.inference_mode():
            slots = present[0] if len(present) == 1 else self._put(feed.slot)
            self._active.use(slots, present)
            return self.model(
                input_ids=self._put(feed.tokens)[None],
                position_ids=batch.position[None],
                paged=batch,
                use_cache=False,
                logits_to_keep=self._put(feed.keep),
            ).logits[0]

    def read(
        self, sequences: Sequence[Sequence[int]], starts: Sequence[int], slot: int = 0
    ) -> torch.Tensor:
        """Logits [N, V] that predict tokens `start`, ... of each sequence, one sequence after the
        other: the base's, or those under the adapter in `slot`, in whose tensors they are
        differentiable if those require gradients."""
        weights = self._adapters.get(slot)
        with self._lock, torch.set_grad_enabled(slot > 0 and torch.is_grad_enabled()):
            if self.native is not None and weights is None:
                return self.native.read(sequences, starts)
            if self.training is not None and weights is not None:
                return self.training.logits(sequences, starts, weights)
            return self._read(sequences, starts, slot)

    def _read(
        self, sequences: Sequence[Sequence[int]], starts: Sequence[int], slot: int
    ) -> torch.Tensor:
        """The PyTorch way: one padded batch."""
        width = max(map(len, sequences))
        tokens = np.zeros((len(sequences), width), np.int64)
        mask = np.zeros((len(sequences), width), bool)
        places = []
        for row, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
            tokens[row, : len(sequence)], mask[row, : len(sequence)] = sequence, True
            places.append(np.arange(start - 1, len(sequence) - 1) + row * width)
        logits = self.forward(self._put(tokens), self._put(mask), slot)
        return logits.flatten(0, 1)[self._put(np.concatenate(places))].float()

    @cached_property
    def training(self) -> NativeTraining | None:
        """The native way to train, where it covers this model; made when it is first asked for."""
        if self.native is None or why_not_train(self.native) is not None:
            return None
        return NativeTraining(self.native)

    @torch.no_grad()
    def states(self, sequences: Sequence[Sequence[int]], layers: int) -> list[torch.Tensor]:
        """What each sequence's tokens are after so many of the base's layers, [T, H] each, on the
        CPU."""
        if self.native is not None:
            with self._lock:
                found = self.native.read(sequences, (), layers)
            return list(found.split([len(sequence) for sequence in sequences]))
        found = []
        for sequence in sequences:
            with self._lock:
                self._active.use(0)
                out = self.model(
                    input_ids=self._put(np.array([sequence])),
                    use_cache=False,
                    output_hidden_states=True,
                )
            found.append(out.hidden_states[layers][0].float().cpu())
        return found

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def new_pages(self, slots: int) -> tuple[KVPages, ...] | Pages | RowStates:
        """An empty cache of `slots` token slots for every layer, in the form `step` wants."""
        if self.native is not None:
            return self.native.new_pages(slots)
        if self.recurrent:
            return RowStates(self.config)
        return self._torch_pages(slots + (self.cuda.spare_slots if self.cuda is not None else 0))

    def _torch_pages(self, slots: int) -> tuple[KVPages, ...]:
        heads, key, value = _cache_shape(self.config)

        def empty(width: int) -> torch.Tensor:
            shape = (slots, heads, width)
            if self.device.type != "cpu":
                return torch.zeros(shape, dtype=self.dtype, device=self.device)
            room = zeroed(slots * heads * width * self.dtype.itemsize)
            return room.view(self.dtype).view(shape)

        layers = range(self.config.num_hidden_layers)
        return tuple(KVPages(empty(key), empty(value)) for _ in layers)

    def cache_bytes(self, slots: int) -> int:
        """Size of a cache of so many token slots."""
        layers = (self.native.new_pages(slots),) if self.native else self._torch_pages(slots)
        return sum(p.key.nbytes + p.value.nbytes for p in layers)

    def use_native(self, weights: Weights = "auto") -> str | None:
        """Run steps on the native library where it covers this model; else the reason why not."""
        reason = why_not(self.model)
        if reason is None:
            self.native = NativeStep(self.model, weights)
            self.__dict__.pop("training", None)
        return reason

    def use_cuda(self, weights: Weights = "auto", record: Recorder | None = None) -> str | None:
        """Run steps on the CUDA kernels (on a CPU: in Triton's interpreter); else the reason why
        not. `weights` int8 or int4 is for experts; `record` stands in for CUDA's graphs."""
        if self.recurrent:
            return "layers with a running state have no pages"
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed"
        from burnish.kernels.cuda.step import CudaStep

        self.cuda = CudaStep(self.model, self._active, weights, record)
        return None

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
        tables: dict[str, SlotTable] = module.lora_tables  # type: ignore[assignment]
        return tables.setdefault(parameter, SlotTable(self._active))


def load_model(
    path: Path | str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    native: bool = True,
    weights: Weights = "auto",
) -> LoadedModel:
    """Load a Hugging Face folder. `dtype` "auto": float32 for small models on a CPU, else its own.

    `device` "auto" is CUDA where there is any, else the CPU. `native` allows the fast ways: on a CPU
    the native library where it covers the model (it is compiled on first use), on CUDA our kernels.
    `weights` is the form in which they keep weights; "auto" loses nothing. Where there is no fast
    way the PyTorch reference serves.

    Raises ModelError with one clear sentence for a folder that cannot be served.
    """
    folder = open_folder(path)
    config, path = folder.config, folder.path
    if unknown := recurrent.unknown_layers(config):
        raise ModelError(
            f"cannot load the model in {path}: its layers of type {unknown[0]} remember what no"
            " cache of ours holds"
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = _dtype(dtype, device, folder)
    if device == "cpu":
        _check_memory(folder, chosen, native)
    attention.register()
    experts.register()
    try:
        loading: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=chosen,
            attn_implementation="sdpa" if recurrent.keeps_state(config) else attention.NAME,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, by name
            **({"experts_implementation": experts.NAME} if has_experts(config) else {}),
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load the model in {path}: {one_line(error)}") from error
    model, info = loading
    _check_loaded(path, model, info)
    model = model.to(torch.device(device)).eval().requires_grad_(False)
    loaded = LoadedModel(model, folder.tokenizer, path, folder.sha256)
    if native:
        use = loaded.use_native if device == "cpu" else loaded.use_cuda
        use(weights)
    return loaded


def _check_memory(folder: ModelFolder, dtype: str, native: bool) -> None:
    """ModelError if the weights, and the native library's copy of them, cannot fit."""
    stored = folder.weight_bytes / max(1, folder.parameters)
    each = (4 if dtype == "float32" else stored) + (min(stored, 4) if native else 0)
    wanted, free = each * folder.parameters, available_bytes()
    if free is not None and wanted > free:
        raise ModelError(
            f"the model in {folder.path} needs about {wanted / 2**30:.1f} GiB of memory and"
            f" {free / 2**30:.1f} GiB are free"
        )


def _check_loaded(path: Path, model: Any, info: Any) -> None:
    """ModelError if a weight is missing, of another shape, or not a number.

    transformers would draw the missing ones at random and go on.
    """
    if wrong := sorted(info["mismatched_keys"]):
        name, found, wanted = wrong[0]
        raise ModelError(
            f"{path}: {name} has shape {tuple(found)}, the architecture wants {tuple(wanted)}"
        )
    if missing := sorted(info["missing_keys"]):
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise ModelError(f"{path} lacks the weights {missing[0]}{more}")
    for name, parameter in model.named_parameters():
        if not bool(parameter.detach().sum(dtype=torch.float32).isfinite()):
            raise ModelError(f"{path}: {name} holds numbers that are not finite")


def _cache_shape(config: Any) -> tuple[int, int, int]:
    """Heads that are cached, width of a key, width of a value."""
    if getattr(config, "kv_lora_rank", None):  # MLA, expanded to every head
        key = config.qk_nope_head_dim + config.qk_rope_head_dim
        return config.num_attention_heads, key, config.v_head_dim
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return heads, width, width


def has_experts(config: Any) -> bool:
    """Whether a model of this config is a mixture of experts."""
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    return any(getattr(config, name, None) for name in names)


def _dtype(dtype: str, device: str, folder: ModelFolder) -> str:
    if dtype != "auto" or device != "cpu":
        return dtype
    return "float32" if folder.parameters < FP32_BELOW else "auto"
