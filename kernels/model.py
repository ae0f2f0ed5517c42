"""A loaded model: its adapters, its steps over a paged cache, its forward pass over whole sequences.

transformers' model classes are the reference and know every family; our ops reach them through its
interfaces. `step` is for the engine (flattened tokens over a paged cache), on the native library or
the CUDA kernels where they cover the model; `forward` and `read` are for the learner (whole sequences,
differentiable in the chosen slot's tensors).

Left out: loading (loading.py).
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from burnish.kernels import recurrent
from burnish.kernels.attention import KVPages, PagedBatch, paged_step
from burnish.kernels.choice import WORKS, Choice, Way, Work
from burnish.kernels.cpu.allocation import release_freed
from burnish.kernels.cpu.step import NativePages, NativeStep, PackedAdapter
from burnish.kernels.cpu.support import unsupported_reason
from burnish.kernels.cpu.training import NativeTraining, training_unsupported_reason
from burnish.kernels.folder import (
    end_tokens,
    frame_tokens,
)
from burnish.kernels.formats import Cache, Weights
from burnish.kernels.forward_batch import ForwardBatch, SamplerOutput, SamplingMetadata
from burnish.kernels.lora import AdapterWeights, LoraTarget, check_fits
from burnish.kernels.mtp import MTPModule
from burnish.kernels.recurrent import RowStates
from burnish.kernels.slots import ActiveSlots, SlotLinear, SlotTable

if TYPE_CHECKING:
    from burnish.kernels.cuda.graphs import Recorder
    from burnish.kernels.cuda.step import CudaStep


Pairs = list[tuple[LoraTarget, tuple[torch.Tensor, torch.Tensor]]]


@dataclass(frozen=True)
class PreparedAdapter:
    """An adapter ready for a slot: A and B of every target, if the reference is in memory, and all of
    it packed for the native library."""

    weights: AdapterWeights
    pairs: Pairs | None
    packed: PackedAdapter | None


@dataclass(frozen=True)
class DeferredModel:
    """A transformers model that is loaded when something first needs it: training in PyTorch, or a
    forward pass that the native library does not cover. Until then its outline stands for it."""

    config: Any
    generation_config: Any
    outline: torch.nn.Module
    dtype: torch.dtype
    load: Callable[[], Any]
    device: torch.device


class LoadedModel:
    """A model with its tokenizer and resident adapters."""

    def __init__(self, model: Any, tokenizer: Any, path: Path, sha256: str) -> None:
        """`model` is a transformers model, or a `DeferredModel`."""
        self._described = model
        self._reference = None if isinstance(model, DeferredModel) else model
        self.tokenizer = tokenizer
        self.config = model.config
        self.path = path
        self.sha256 = sha256
        self.eos_token_ids = end_tokens(model.generation_config, model.config, tokenizer)
        self._active = ActiveSlots()
        # Slots are set on the model and then read by its layers: one forward pass at a time.
        self._lock = threading.RLock()
        self._adapters: dict[int, AdapterWeights] = {}
        self._filled: dict[int, list[SlotTable]] = {}  # by slot
        self.choice: Choice | None = None  # on a CPU: what runs natively, and why
        self._native: dict[Work, NativeStep] = {}
        self.cuda: CudaStep | None = None
        self.mtp: MTPModule | None = None  # that drafts tokens, where the checkpoint has one
        self.rounded: Weights | None = None
        """The format that weights were rounded to on request; None: steps read what is stored."""
        self.cache: Cache = "auto"
        # A recurrent state cannot be shared between sequences, nor rolled back.
        self.recurrent = recurrent.is_recurrent(model.config)

    @property
    def model(self) -> Any:
        """The transformers model."""
        if self._reference is None:
            with self._lock:
                if self._reference is None:
                    self._reference = self._described.load()
                    for slot, weights in self._adapters.items():
                        self._fill_tables(slot, weights, self._place_pairs(weights))
        return self._reference

    @property
    def outline(self) -> torch.nn.Module:
        """Module names and shapes: the transformers model, or what stands for it while it is deferred."""
        return self._described.outline if self._reference is None else self._reference

    @property
    def native(self) -> NativeStep | None:
        """The packed model that steps run on; None: they run in PyTorch."""
        return self._native.get("steps")

    @property
    def reader(self) -> NativeStep | None:
        """The packed model that reads hidden states; None: PyTorch does."""
        return next(iter(self._native.values()), None)

    @property
    def dtype(self) -> torch.dtype:
        return self._described.dtype

    @property
    def device(self) -> torch.device:
        return self._described.device

    @property
    def weights(self) -> str:
        """The format in which steps read weights."""
        if self.native is not None:
            return self.native.format
        return self.rounded or str(self.dtype).removeprefix("torch.")

    @property
    def kv_cache(self) -> str:
        """The format in which steps keep keys and values."""
        if self.cache == "auto":
            return (
                self.native.cache_format if self.native else str(self.dtype).removeprefix("torch.")
            )
        return self.cache

    @property
    def lossless(self) -> bool:
        """Whether nothing was rounded on request."""
        return self.rounded is None and self.cache == "auto"

    @property
    def max_model_len(self) -> int:
        """Longest sequence the model was made for, in tokens."""
        return self.config.max_position_embeddings

    @property
    def hidden_token_ids(self) -> frozenset[int]:
        """Special tokens that are no part of the text: end of sequence, padding, beginning."""
        return frame_tokens(self.tokenizer, self.eos_token_ids)

    def prepare_adapter(self, weights: AdapterWeights) -> PreparedAdapter:
        """The part of `set_adapter` that may run while a forward pass runs.

        Tensors that require gradients are used live: the next forward pass sees what training changes.
        Others are copied. AdapterError if they do not fit the model.
        """
        deferred = self._reference is None
        check_fits(self.outline, weights)
        pairs = None if deferred else self._place_pairs(weights)
        packs = self.native is not None and not weights.live
        packed = self.native.pack_adapter(weights) if self.native and packs else None
        return PreparedAdapter(weights, pairs, packed)

    def _place_pairs(self, weights: AdapterWeights) -> Pairs:
        """A and B of every target of the transformers model, on its device and in its type."""
        pairs = []
        for target in check_fits(self.model, weights):
            a, b = (self._place(weights.tensors[f"{target.name}.lora_{x}.weight"]) for x in "AB")
            a, b = target.unpack(a, b, weights.spec.rank)
            if self.cuda is not None and not b.requires_grad:
                b = b.mT.contiguous().mT  # the layout that the CUDA kernels read
            pairs.append((target, (a, b)))
        return pairs

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
                self.cuda.bank.clear(slot)
            if adapter is None:
                return
            weights, pairs = adapter.weights, adapter.pairs
            if self._reference is not None:
                self._fill_tables(slot, weights, pairs or self._place_pairs(weights))
            self._adapters[slot] = weights
            self._active.scales[slot] = (weights.spec.rank, weights.spec.scale)

    def _fill_tables(self, slot: int, weights: AdapterWeights, placed: Pairs) -> None:
        """Put an adapter where the transformers model, or the CUDA kernels, read it."""
        pairs = [(self._table(s.module, s.parameter), pair) for s, pair in placed]
        self._filled[slot] = [table for table, _ in pairs]  # cleared even if filling fails
        for table, pair in pairs:
            table.set(slot, pair)
        if self.cuda is not None and not weights.live:
            self.cuda.bank.fill(slot, pairs, weights.spec.rank, weights.spec.scale)

    def set_parameters(self, slot: int, weights: AdapterWeights) -> dict[str, tuple[Any, str]]:
        """Fill a slot with parameters of the very modules that it adapts, so that what shards, moves or
        gathers a module's parameters does so with these.

        Returns module and attribute of each tensor by its name. The model must run in PyTorch.
        """
        places: dict[str, tuple[Any, str]] = {}
        with self._lock:
            for target in check_fits(self.model, weights):
                names = [f"lora_{x}_{target.parameter or 'weight'}" for x in "AB"]
                for letter, name in zip("AB", names, strict=True):
                    tensor_name = f"{target.name}.lora_{letter}.weight"
                    tensor = weights.tensors[tensor_name].detach().float().clone()
                    target.module.register_parameter(name, torch.nn.Parameter(tensor))
                    places[tensor_name] = target.module, name
                table = self._table(target.module, target.parameter)
                table.set(slot, partial(_parameters, target, names, weights.spec.rank))
            self._active.scales[slot] = (weights.spec.rank, weights.spec.scale)
        return places

    def adapter(self, slot: int) -> AdapterWeights | None:
        """The adapter in a slot, if there is one."""
        return self._adapters.get(slot)

    def forward(
        self, tokens: torch.Tensor, mask: torch.Tensor | None = None, slot: int = 0
    ) -> torch.Tensor:
        """Logits [B, T, V] of whole sequences: tokens [B, T], mask [B, T] True on real tokens, padded on
        either side. Differentiable in the slot's tensors; slot 0 is the base.
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
        batch: ForwardBatch,
        table: np.ndarray,
        pages: Any,
        sampling: SamplingMetadata | None = None,
        hidden: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor | None, SamplerOutput | None]:
        """One step of the engine over `pages` (from `new_pages`) and their `table` [rows, reach].

        Returns the logits [K, V] of the kept tokens and the tokens sampled for them. Only the native
        library samples, and may then take several steps; given `sampling`, it returns logits only if
        some rows are skipped. `hidden` float32 [steps * T, H], where given, is filled with what the LM
        head reads of all tokens, step by step; not where the CUDA kernels run.
        """
        if self.native is None:
            return self._step(batch, table, pages, hidden), None
        wanted = sampling is None or bool(sampling.skip.any())
        logits = self.native.empty_logits(len(batch.keep)) if wanted else None
        with self._lock:
            output = self.native(
                batch, table, pages, sampling=sampling, logits=logits, hidden=hidden
            )
        return None if logits is None else logits[:, : self.native.vocab], output

    def _step(
        self,
        batch: ForwardBatch,
        table: np.ndarray,
        pages: Any,
        hidden: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """A step of the transformers class, with the CUDA kernels inside where they are in use."""
        if self.recurrent:
            with self._lock, torch.inference_mode():
                return recurrent.step(self.model, batch, pages, self._active.use)
        present = tuple(set(batch.slots.tolist()))
        live = any(self._adapters[s].live for s in present if s in self._adapters)
        if self.cuda is not None and not live:
            with self._lock, torch.inference_mode():
                return self.cuda(batch, table, pages)
        paged = PagedBatch(pages, *map(self._put, (table, batch.rows, batch.starts, batch.counts)))
        with self._lock, torch.inference_mode():
            slots = present[0] if len(present) == 1 else self._put(batch.slot)
            self._active.use(slots, present)
            inputs = {"input_ids": self._put(batch.tokens)[None]}
            return paged_step(self.model, inputs, paged, self._put(batch.keep), hidden)

    def read(
        self, sequences: Sequence[Sequence[int]], starts: Sequence[int], slot: int = 0
    ) -> torch.Tensor:
        """Logits [N, V] that predict tokens `start`, ... of each sequence, one sequence after the
        other, under the adapter in `slot`; differentiable in its tensors if they require gradients."""
        weights = self._adapters.get(slot)
        with self._lock, torch.set_grad_enabled(slot > 0 and torch.is_grad_enabled()):
            if weights is None and "sequences" in self._native:
                return self._native["sequences"].read(sequences, starts)
            if self.training is not None and weights is not None:
                return self.training.logits(sequences, starts, weights)
            return self._read(sequences, starts, slot)

    def _read(
        self, sequences: Sequence[Sequence[int]], starts: Sequence[int], slot: int
    ) -> torch.Tensor:
        """`read` by the transformers class: one padded batch."""
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
        """Native training, where it was chosen; packed on first use, from a transformers model that is not
        kept for it: at float32 it is the largest thing in a process."""
        step = self._native.get("training")
        if step is None:
            return None
        if self._reference is not None:
            return NativeTraining(step, self._reference)
        packed = NativeTraining(step, self._described.load())
        release_freed()
        return packed

    @torch.no_grad()
    def states(self, sequences: Sequence[Sequence[int]], layers: int) -> list[torch.Tensor]:
        """Hidden states of each sequence after that many layers of the base, [T, H] each, on the CPU."""
        if self.reader is not None:
            with self._lock:
                found = self.reader.read(sequences, (), layers)
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

    def read_step(
        self, batch: ForwardBatch, table: np.ndarray, pages: NativePages, layers: int
    ) -> torch.Tensor:
        """The hidden states [T, H] of the `reader`'s step, after that many layers of the base."""
        assert self.reader is not None
        state = torch.empty(len(batch.tokens), self.reader.config.hidden_size)
        with self._lock:
            self.reader(batch, table, pages, state=state, layers=layers)
        return state

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def new_pages(self, slots: int) -> tuple[KVPages, ...] | NativePages | RowStates:
        """An empty cache of `slots` token slots for every layer, in the layout that `step` reads."""
        if self.native is not None:
            return self.native.new_pages(slots, None if self.cache == "auto" else self.cache)
        if self.recurrent:
            return RowStates(self.config)
        return self._torch_pages(slots + (self.cuda.spare_slots if self.cuda is not None else 0))

    def _torch_pages(self, slots: int) -> tuple[KVPages, ...]:
        layers = range(self.config.num_hidden_layers)
        return tuple(KVPages.empty(self.config, slots, self.dtype, self.device) for _ in layers)

    def cache_bytes(self, slots: int) -> int:
        """Size of a cache of that many token slots."""
        pages = self.new_pages(slots) if self.native else None
        layers = (pages,) if isinstance(pages, NativePages) else self._torch_pages(slots)
        of_mtp = 0 if self.mtp is None else self.mtp.cache_bytes(slots)
        return of_mtp + sum(p.key.nbytes + p.value.nbytes for p in layers)

    def use_native(self, weights: Weights = "auto") -> str | None:
        """Run everything on the native library; returns the reason if it does not cover this model."""
        reason = unsupported_reason(self.model)
        if reason is None:
            self.use(NativeStep.pack(self.model, weights))
        return reason

    def use(self, step: NativeStep, choice: Choice | None = None) -> None:
        """Run on a packed model what `choice` says; without one, everything."""
        choice = choice or Choice.same(True, "it covers this model")
        if reason := training_unsupported_reason(step):
            choice = choice.but("training", Way(False, reason))
        self.choice = choice
        self._native = {work: step for work in WORKS if choice.native(work)}
        self.__dict__.pop("training", None)

    def use_cuda(self, weights: Weights = "auto", record: Recorder | None = None) -> str | None:
        """Run steps on the CUDA kernels (on a CPU: in Triton's interpreter); returns the reason if they
        cannot run. `weights` int8 or int4 is for experts; `record` replaces CUDA graphs."""
        if self.recurrent:
            return "layers with a recurrent state have no pages"
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


def _parameters(
    target: LoraTarget, names: Sequence[str], rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B as the module holds them now."""
    a, b = (getattr(target.module, name) for name in names)
    return target.unpack(a, b, rank)
