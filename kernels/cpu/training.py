"""Training an adapter on the native library: the forward pass that serves, and its gradients.

A token's log-probability in training thus equals the one it was sampled with, up to the last bits of
float32. cpu/native/train.cpp computes the backward pass; autograd sees the whole model as one function
from the adapter's tensors to logits. Left out: training the base, int8 and int4 weights.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from burnish.kernels.cpu import library as native
from burnish.kernels.cpu.layers import LayerWeights, joined_adapters
from burnish.kernels.cpu.packing import BLOCK, Packer
from burnish.kernels.cpu.sequences import whole_sequences
from burnish.kernels.cpu.step import NativeStep
from burnish.kernels.cpu.structs import POINTER, CBackward, CLayer, CLora, CLoraGradient, CMatrix
from burnish.kernels.cpu.target import WIDTH
from burnish.kernels.lora import AdapterWeights
from torch import Tensor

MOST_KEPT = 256 << 20  # bytes of activations between a forward pass and its backward pass


def training_unsupported_reason(step: NativeStep) -> str | None:
    """Why a packed model cannot be trained natively; None: it can."""
    if step.format not in ("float32", "bfloat16"):
        return f"weights are {step.format}"
    if getattr(step.config, "clip_qkv", None):
        return "it clips its queries"
    if step.cache_format != "float32":
        return "its cache is not float32"
    return None


class NativeTraining:
    """A packed model's weights, transposed, as the backward pass multiplies by them."""

    def __init__(self, step: NativeStep, model: Any) -> None:
        """`model` is the transformers model; nothing of it is kept."""
        self.step = step
        self._packer = Packer()
        self._parts: list[list[int]] = []
        self._spare: Tensor | None = None
        transposed = []
        for layer in map(LayerWeights.of, model.model.layers):  # joined copies of one at a time
            self._parts += layer.parts
            transposed.append(self._transpose(layer))
        self._transposed = (CLayer * step.depth)(*transposed)
        self._head = self._matrix(model.get_output_embeddings().weight, step.format)

    def _transpose(self, layer: LayerWeights) -> CLayer:
        form = self.step.format
        return CLayer(
            qkv=self._matrix(layer.qkv, form),
            out=self._matrix(layer.out, form),
            router=self._matrix(layer.router, "float32"),
            gate_up=self._matrix(layer.gate_up, form),
            down=self._matrix(layer.down, form),
            query=self._matrix(layer.query, form),
            key=self._matrix(layer.key, form),
            value=self._matrix(layer.value, form),
        )

    def _matrix(self, weight: Tensor | None, form: str) -> CMatrix:
        transposed = None if weight is None else _transposed(weight.detach())
        return self._packer.matrix(transposed, form)

    def activations(self, tokens: int, most: int) -> Tensor | None:
        """Room for what a backward pass over so many tokens would else compute again; None where it takes more
        than so many bytes, or nothing is kept."""
        library = native.library()
        assert library is not None
        size = library.burnish_activations(ctypes.byref(self.step._model), ctypes.c_int64(tokens))
        if not 0 < 4 * size <= most:
            return None
        spare, self._spare = self._spare, None
        return spare if spare is not None and len(spare) >= size else torch.empty(size)

    def give_back(self, activations: Tensor | None) -> None:
        """Keep the room for the next forward pass: memory that is new takes longer to write."""
        self._spare = activations if activations is not None else self._spare

    def logits(
        self, sequences: Sequence[Sequence[int]], starts: Sequence[int], weights: AdapterWeights
    ) -> Tensor:
        """Logits [N, V] under an adapter that predict tokens `start`, ... of each sequence, one
        sequence after the other; differentiable in the adapter's tensors."""
        pairs = joined_adapters(self.step.outline, weights)
        flat = list(itertools.chain.from_iterable(pairs))
        most = MOST_KEPT if torch.is_grad_enabled() else 0
        return _Logits.apply(self, sequences, starts, weights.spec.scale, most, *flat)  # type: ignore[no-any-return]


class _Logits(torch.autograd.Function):
    """The whole model as a function of its adapter's joined matrices."""

    @staticmethod
    def forward(
        ctx: Any,
        training: NativeTraining,
        sequences: Sequence[Sequence[int]],
        starts: Sequence[int],
        scale: float,
        most: int,  # bytes of activations to keep
        *flat: Tensor,
    ) -> Tensor:
        step = training.step
        packer = Packer()
        packed = [packer.lora(a, b, scale) for a, b in zip(flat[::2], flat[1::2], strict=True)]
        ctx.training, ctx.packer, ctx.sizes = training, packer, [t.shape for t in flat]
        ctx.adapter = (CLora * len(packed))(*packed)
        ctx.transposed = (CLora * len(packed))(*_transpose_adapter(training, packer, flat, scale))
        ctx.calls, parts = [], []
        for batch, table in whole_sequences(sequences, starts, slot=1):
            states = torch.empty(step.depth, len(batch.tokens), step.config.hidden_size)
            kept = training.activations(len(batch.tokens), most)
            most -= 0 if kept is None else kept.nbytes
            logits = step.empty_logits(len(batch.keep))
            slots = (POINTER * 2)(ctypes.addressof(ctx.adapter), ctypes.addressof(ctx.transposed))
            call = step.call(
                batch,
                table,
                step.new_pages(table.size),
                adapters=slots,
                logits=logits,
                states=states,
                activations=kept,
            )
            call.run()
            ctx.calls.append((call, kept))
            parts.append(logits[:, : step.vocab])
        return parts[0] if len(parts) == 1 else torch.cat(parts)  # of large vocabularies no copy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        training: NativeTraining = ctx.training
        step = training.step
        library = native.library()
        assert library is not None
        # Those of `up` are [E, rank, out]: outputs are contiguous.
        sums = [
            torch.zeros(size[0], size[2], -(-size[1] // BLOCK) * BLOCK)
            if number % 2
            else torch.zeros(size)
            for number, size in enumerate(ctx.sizes)
        ]
        gradients = (CLoraGradient * (len(sums) // 2))(
            *((a.data_ptr(), b.data_ptr()) for a, b in zip(sums[::2], sums[1::2], strict=True))
        )
        wide = -(-step.vocab // BLOCK) * BLOCK
        done = 0
        for call, activations in ctx.calls:
            kept = len(call.batch.keep)
            d_logits = grad[done : done + kept].float()
            if wide > step.vocab:
                d_logits = F.pad(d_logits, (0, wide - step.vocab))
            d_logits = d_logits.contiguous()
            done += kept
            starts = np.concatenate([[0], call.batch.counts.cumsum()]).astype(np.int64)
            backward = CBackward(
                ctypes.addressof(training._transposed),
                training._head,
                len(call.batch.rows),
                starts.ctypes.data,
                d_logits.data_ptr(),
                ctypes.addressof(gradients),
            )
            native.check(
                library.burnish_backward(
                    call.model, ctypes.byref(call.step), ctypes.byref(backward)
                )
            )
            training.give_back(activations)
        for number in range(1, len(sums), 2):
            sums[number] = sums[number][..., : ctx.sizes[number][1]].transpose(1, 2)
        return None, None, None, None, None, *sums


def _transposed(weight: Tensor) -> Tensor:
    """weight [(E,) out, in] -> [(E,) in, out], out padded to whole blocks."""
    return F.pad(weight.transpose(-1, -2), (0, -weight.shape[-2] % BLOCK))


def _transpose_adapter(
    training: NativeTraining, packer: Packer, flat: Sequence[Tensor], scale: float
) -> list[CLora]:
    """The adapter of the transposed products, whose down matrix is `up`, transposed, with ranks of its
    own for each of the joined parts, and whose up matrix is `down`, transposed."""
    transposed = []
    for number, halves in enumerate(training._parts):
        a, b = (t.detach() for t in flat[2 * number : 2 * number + 2])
        rank, parts = b.shape[2], a.shape[1] // b.shape[2]
        padded = F.pad(b.transpose(1, 2), (0, -b.shape[1] % BLOCK))  # [E, rank, out]
        part = torch.tensor(halves).repeat_interleave(WIDTH)  # [out]
        down = torch.cat([padded * (part == p) for p in range(parts)], dim=1)
        assert down.shape[1] == parts * rank
        transposed.append(packer.lora(down, a.transpose(1, 2), scale))
    return transposed
