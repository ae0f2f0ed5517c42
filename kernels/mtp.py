"""Multi-token prediction: a module behind the last layer that predicts the token after the next one.

DeepSeek-V3 (technical report, section 2.2) and GLM-4 MoE are trained with such a module and store it as the
layer after their last. For position i it takes the model's hidden state there and the embedding of
token i+1, each normalised, projects both to one vector, passes that through one decoder layer with a
cache of its own, and reads token i+2 off the model's LM head. transformers leaves it out when it loads
a model; here it drafts tokens for the engine (serving/engine/mtp_drafter.py).

Left out: training it, GPUs, and modules after the first (repeating the first stands for them).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from burnish.kernels.attention import KVPages, PagedBatch, paged_step
from burnish.kernels.cpu.step import NativePages, NativeStep
from burnish.kernels.folder import ModelError, ModelFolder
from burnish.kernels.forward_batch import ForwardBatch, SamplerOutput, SamplingMetadata
from safetensors import safe_open
from torch import Tensor

JOINT = ("enorm.weight", "hnorm.weight", "eh_proj.weight")
ENDS = ("model.embed_tokens.weight", "lm_head.weight")  # are the model's
SMALL = 8  # tokens in a vocabulary that nobody reads


@dataclass(frozen=True)
class Joint:
    """What makes the layer's input of a token's embedding and the hidden state before it."""

    enorm: Tensor  # [H]
    hnorm: Tensor  # [H]
    eh_proj: Tensor  # [H, 2H]
    eps: float

    def __call__(self, embedded: Tensor, hidden: Tensor) -> Tensor:
        """Embeddings and hidden states [T, H] -> [T, H], in the projection's type."""
        width = self.enorm.shape
        pair = (
            F.rms_norm(x.to(self.eh_proj.dtype), width, norm, self.eps)
            for x, norm in ((embedded, self.enorm), (hidden, self.hnorm))
        )
        return F.linear(torch.cat([*pair], dim=-1), self.eh_proj)


class MTPModule:
    """The module of a loaded model: native where its steps are, else a transformers model of one layer."""

    def __init__(
        self,
        joint: Joint,
        native: NativeStep | None,
        reference: Any,
        embed: Callable[[Tensor], Tensor],
    ) -> None:
        self._joint, self._native, self._reference, self._embed = joint, native, reference, embed
        self.width = len(joint.enorm)

    def new_pages(self, slots: int) -> NativePages | tuple[KVPages, ...]:
        """An empty cache of `slots` token slots."""
        if self._native is not None:
            return self._native.new_pages(slots)
        model = self._reference
        return (KVPages.empty(model.config, slots, model.dtype, model.device),)

    def cache_bytes(self, slots: int) -> int:
        """Size of a cache of that many token slots."""
        pages = self.new_pages(slots)
        layers = (pages,) if isinstance(pages, NativePages) else pages
        return sum(p.key.nbytes + p.value.nbytes for p in layers)

    @torch.inference_mode()
    def step(
        self,
        batch: ForwardBatch,
        hidden: Tensor,
        table: np.ndarray,
        pages: Any,
        sampling: SamplingMetadata,
        deeper: bool = False,
    ) -> tuple[Tensor | None, SamplerOutput | None, Tensor | None]:
        """One step over `pages`. The batch's tokens [T] each follow the position that it gives for
        them, whose hidden states [T, H] float32 are `hidden`.

        Returns the logits [K, V] of the kept tokens or, where the native library runs, what it sampled;
        and, to go `deeper`, hidden states [T, H] that predict one token further.
        """
        inputs = self._joint(self._embed(torch.from_numpy(batch.tokens)), hidden)
        after = torch.empty_like(hidden) if deeper else None
        if self._native is not None:
            drawn = self._native(
                batch, table, pages,
                sampling=sampling, inputs=inputs.float().contiguous(), hidden=after,
            )  # fmt: skip
            return None, drawn, after
        arrays = (table, batch.rows, batch.starts, batch.counts, batch.keep)
        *places, keep = map(torch.from_numpy, arrays)
        paged = PagedBatch(pages, *places)
        embeddings = {"inputs_embeds": inputs.to(self._reference.dtype)[None]}
        return paged_step(self._reference, embeddings, paged, keep, after), None, after


def prefix_of(config: Any) -> str:
    """How the names of its tensors begin."""
    return f"model.layers.{config.num_hidden_layers}."


def stored(folder: ModelFolder) -> dict[str, Any]:
    """The module's tensors in a checkpoint, unread, by their names there; empty if it has none."""
    if folder.weights is not None or getattr(folder.config, "num_nextn_predict_layers", 1) == 0:
        return {}
    found, prefix = {}, prefix_of(folder.config)
    for file in folder.files:
        with safe_open(file, framework="pt") as tensors:
            names = [name for name in tensors.keys() if name.startswith(prefix)]  # noqa: SIM118
            found |= {name: tensors.get_slice(name) for name in names}
    return found


def joint_of(folder: ModelFolder, tensors: dict[str, Any], dtype: torch.dtype) -> Joint:
    """Raises ModelError naming a tensor that is missing, of another shape, or not a number."""
    hidden, prefix = folder.config.hidden_size, prefix_of(folder.config)
    found = []
    for name, shape in zip(JOINT, ([hidden], [hidden], [hidden, 2 * hidden]), strict=True):
        if (tensor := tensors.get(prefix + name)) is None:
            raise ModelError(f"{folder.path} lacks the weights {prefix}{name}")
        if tensor.get_shape() != shape:
            raise ModelError(
                f"{folder.path}: {prefix}{name} has shape {tuple(tensor.get_shape())}, the"
                f" architecture wants {tuple(shape)}"
            )
        found.append(whole := tensor[:].to(dtype))
        if not bool(whole.sum(dtype=torch.float32).isfinite()):
            raise ModelError(f"{folder.path}: {prefix}{name} holds numbers that are not finite")
    enorm, hnorm, eh_proj = found
    return Joint(enorm, hnorm, eh_proj, folder.config.rms_norm_eps)


def config_of(config: Any) -> Any:
    """The config of a model that has the module's layer as its only one, and ends that nobody reads."""
    config = copy.deepcopy(config)
    config.num_hidden_layers, config.vocab_size = 1, SMALL
    config.pad_token_id, config.tie_word_embeddings = None, False
    for name, value in (
        ("first_k_dense_replace", 0),  # it is a mixture of experts, like the last layer
        ("mlp_layer_types", (getattr(config, "mlp_layer_types", None) or [None])[-1:]),
        ("layer_types", (getattr(config, "layer_types", None) or [None])[-1:]),
    ):
        if getattr(config, name, None) is not None:
            setattr(config, name, value)
    return config


def sized(config: Any, model: Any) -> Any:
    """That config with the ends of the `model`'s."""
    config = copy.deepcopy(config)
    config.vocab_size = model.vocab_size
    return config


def weights_of(config: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """The layer's tensors under the names that they have in that model."""
    prefix = prefix_of(config)
    named = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    layer = {
        f"model.layers.0.{name}": tensor
        for name, tensor in named.items()
        if name not in JOINT and not name.startswith(("embed_tokens.", "shared_head."))
    }
    norm = named.get("shared_head.norm.weight")
    layer |= {} if norm is None else {"model.norm.weight": norm}
    return layer | {name: torch.zeros(SMALL, config.hidden_size) for name in ENDS}


def as_stored(config: Any, message: str) -> str:
    """A message about that model's tensors, by the names that they have in the checkpoint."""
    prefix = prefix_of(config)
    told = message.replace("model.norm.weight", f"{prefix}shared_head.norm.weight")
    return told.replace("model.layers.0.", prefix)
