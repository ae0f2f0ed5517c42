"""Loading a causal LM of transformers onto our attention, experts and LoRA slots.

Weights are kept as they are stored, or rounded to a smaller format on request. Left out: sharded
loading, folders whose weights are quantised already, encoder-decoders.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from burnish.kernels import attention, experts, mtp, outline, preparation, recurrent
from burnish.kernels.choice import Choice, Shape, Timer, choose
from burnish.kernels.cpu import library, packed_file
from burnish.kernels.cpu.packing import format_of
from burnish.kernels.cpu.step import NativeStep
from burnish.kernels.cpu.support import unsupported_reason
from burnish.kernels.folder import ModelError, ModelFolder, available_bytes, one_line, open_folder
from burnish.kernels.formats import Cache, Weights
from burnish.kernels.model import DeferredModel, LoadedModel
from burnish.kernels.mtp import MTPModule
from burnish.kernels.preparation import packed_path
from burnish.kernels.timing import time_ways
from safetensors import SafetensorError

log = logging.getLogger(__name__)

# Parameters below which float32 is as fast as bfloat16 on a CPU; a request's tokens then do not depend
# on the rest of its batch.
FP32_BELOW = 300_000_000
LOSSLESS = ("auto", "float32")  # for a folder of whatever type


def load_model(
    path: Path | str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    native: bool = True,
    weights: Weights = "auto",
    kv_cache: Cache = "auto",
    timer: Timer | None = None,
) -> LoadedModel:
    """Load a Hugging Face folder or a GGUF file. `dtype` "auto": float32 for small models on a CPU, else
    its own.

    `device` "auto" is CUDA where there is any, else the CPU. `native` allows our kernels: on a
    CPU the native library (compiled on first use) where it covers the model and is not slower than
    PyTorch, which `timer` tells once per shape (choice.py; by default in a process of its own where the
    model is large, see preparation.py), on CUDA the Triton kernels. Otherwise the
    PyTorch reference serves. `weights` is the format in which our kernels keep weights; "auto" is
    lossless, and bfloat16 for a quantised file. `kv_cache` is that of keys and values. Nothing is served
    in another format than the one asked for.

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
    chosen = _resolve_dtype(dtype, device, folder)
    if weights == "bfloat16" and config.dtype is torch.bfloat16:
        weights = "auto"  # which it is
    if device == "cpu" and native:
        form: Weights = weights
        if folder.quantised and dtype == weights == "auto":
            form = "bfloat16"  # for routers too, which such files keep in float32
        if timer is None:
            large = folder.weight_bytes >= preparation.WORTH_BYTES
            preparation.prepare(folder, chosen, form, (dtype, weights))
            timer = preparation.not_here if large else time_ways
        loaded = _load_packed(folder, chosen, form, timer) or _load_and_pack(
            folder, chosen, form, timer
        )
        choice = loaded.choice
        missing = None if loaded.native or choice is None else choice.ways["steps"].why
    else:
        loaded = LoadedModel(_load(folder, chosen, device), folder.tokenizer, path, folder.sha256)
        missing = loaded.use_cuda(weights) if native else "the kernels are off"
        if missing is None and weights != "auto" and not experts.has_experts(config):
            missing = "on a GPU it is for mixtures of experts"
    _refuse_format(folder, weights, missing)
    if device == "cpu" and not loaded.recurrent:
        loaded.mtp = _load_mtp(folder, loaded, chosen, weights)
    loaded.rounded = None if weights in LOSSLESS else weights
    if kv_cache != "auto" and loaded.native is None:
        raise ModelError(
            f"keys and values of the model in {path} cannot be kept in {kv_cache}:"
            f" {missing or 'on a GPU they cannot'} (BURNISH_KV_CACHE=auto keeps them in the model's type)"
        )
    loaded.cache = kv_cache
    return loaded


def _load_packed(
    folder: ModelFolder, dtype: str, weights: Weights, timer: Timer, choice: Choice | None = None
) -> LoadedModel | None:
    """On the packed weights of an earlier start; None if there are none."""
    packed = packed_file.read(packed_path(folder, dtype, weights))
    if packed is None or library.library() is None:
        return None
    _refuse_beyond_memory(folder, len(packed.mapping))
    described = outline.build(packed.header["outline"], folder.config)
    step = NativeStep.mapped(packed, folder.config, described)
    model = DeferredModel(
        config=folder.config,
        generation_config=folder.generation_config,
        outline=described,
        dtype=step.dtype,
        device=torch.device("cpu"),
        load=partial(_load, folder, dtype, "cpu"),
    )
    loaded = LoadedModel(model, folder.tokenizer, folder.path, folder.sha256)
    loaded.use(step, choice or _choose(folder, step.dtype, step.format, weights, timer))
    if loaded.native is None:
        _ = loaded.model  # loaded now, not under the first request
    return loaded


def _load_and_pack(folder: ModelFolder, dtype: str, weights: Weights, timer: Timer) -> LoadedModel:
    """The first time on this machine: packs the weights, and keeps them for later starts."""
    model = _load(folder, dtype, "cpu", packing=True)
    loaded = LoadedModel(model, folder.tokenizer, folder.path, folder.sha256)
    if reason := unsupported_reason(model):
        loaded.choice = Choice.same(False, reason)
        return loaded
    form: Any = format_of(model) if weights == "auto" else weights
    loaded.choice = choice = _choose(folder, model.dtype, form, weights, timer)
    if not choice.any_native:
        return loaded
    loaded.use(step := NativeStep.pack(model, form), choice)
    if not _keep_packed(step, packed_path(folder, dtype, weights)):
        return loaded
    # On the file like later starts, which leaves the weights in memory once.
    return _load_packed(folder, dtype, weights, timer, choice) or loaded


def _keep_packed(step: NativeStep, path: Path) -> bool:
    """Whether the disk takes them."""
    try:
        step.save(path)
    except OSError as error:
        log.warning("packed weights are not kept, and later starts pack again: %s", error)
        return False
    return True


def _choose(
    folder: ModelFolder, dtype: torch.dtype, form: str, weights: Weights, timer: Timer
) -> Choice:
    if weights != "auto":
        return Choice.same(True, f"only it keeps weights in {weights} on request")
    return choose(Shape(folder.config, dtype, form), timer)


def _load_mtp(
    folder: ModelFolder, loaded: LoadedModel, dtype: str, weights: Weights
) -> MTPModule | None:
    """The module for multi-token prediction that a checkpoint may have; in the way that steps run."""
    if not (tensors := mtp.stored(folder)):
        return None
    joint = mtp.joint_of(folder, tensors, loaded.dtype)
    alone = replace(
        folder, config=mtp.config_of(folder.config), weights=mtp.weights_of(folder.config, tensors)
    )

    def load() -> Any:
        try:
            model = _load(alone, dtype, "cpu")
        except ModelError as error:
            raise ModelError(mtp.as_stored(folder.config, str(error))) from error
        model.config.vocab_size = folder.config.vocab_size
        return model

    if (step := loaded.native) is None:
        model = load()
        model.set_input_embeddings(loaded.model.get_input_embeddings())
        model.set_output_embeddings(loaded.model.get_output_embeddings())
        return MTPModule(joint, None, model, model.get_input_embeddings())
    path = packed_path(alone, dtype, weights)
    if (packed := packed_file.read(path)) is not None:
        described = outline.build(packed.header["outline"], folder.config)
        native = NativeStep.mapped(packed, mtp.sized(alone.config, folder.config), described)
    else:
        form: Any = step.format
        native = NativeStep.pack(load(), form, ends=False)
        _keep_packed(native, path)
    native.share_ends(step)
    return MTPModule(joint, native, None, step.embed)


def _refuse_format(folder: ModelFolder, weights: Weights, missing: str | None) -> None:
    """ModelError if a format was asked for and the kernels that read it are missing, for that reason."""
    if weights != "auto" and missing is not None:
        raise ModelError(
            f"the weights in {folder.path} cannot be kept in {weights}: {missing}"
            " (BURNISH_WEIGHTS=auto serves them as they are)"
        )


def _load(folder: ModelFolder, dtype: str, device: str, packing: bool = False) -> Any:
    """The transformers model on our attention and experts. Raises ModelError."""
    path, config = folder.path, folder.config
    if device == "cpu":  # for the weights, and while they are packed for a copy of them
        stored = folder.weight_bytes / max(1, folder.parameters)
        each = (4 if dtype == "float32" else stored) + (min(stored, 4) if packing else 0)
        _refuse_beyond_memory(folder, each * folder.parameters)
    attention.register()
    experts.register()
    try:
        loading = folder.from_pretrained(
            dtype=dtype,
            attn_implementation="sdpa" if recurrent.is_recurrent(config) else attention.NAME,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # `_check_loaded` names them
            **({"experts_implementation": experts.NAME} if experts.has_experts(config) else {}),
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load the model in {path}: {one_line(error)}") from error
    model, info = loading
    _check_loaded(path, model, info)
    return model.to(torch.device(device)).eval().requires_grad_(False)


def _refuse_beyond_memory(folder: ModelFolder, wanted: float) -> None:
    """ModelError if that many bytes are not free."""
    free = available_bytes()
    if free is not None and wanted > free:
        raise ModelError(
            f"the model in {folder.path} needs about {wanted / 2**30:.1f} GiB of memory and"
            f" {free / 2**30:.1f} GiB are free"
        )


def _check_loaded(path: Path, model: Any, info: Any) -> None:
    """ModelError if a weight is missing, of another shape, or not a number.

    transformers would initialise the missing ones at random.
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


def _resolve_dtype(dtype: str, device: str, folder: ModelFolder) -> str:
    if dtype != "auto" or device != "cpu":
        return dtype
    return "float32" if folder.parameters < FP32_BELOW else "auto"
