"""Reading a model folder without its weights: config, tokenizer, sizes, special tokens, hash.

A Hugging Face folder holds config.json, a tokenizer and *.safetensors; the headers of the latter
list every tensor, so a truncated file is found before it is loaded. A GGUF file holds all of it by itself
(gguf_model.py), and is taken for a folder. Left out: whether the tensors are the ones that the
architecture needs (loading.py), and pickled weights.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import struct
import sys
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

log = logging.getLogger(__name__)


class ModelError(ValueError):
    """A model folder cannot be loaded; the message says why, in one line."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder that has a config, a tokenizer and whole weight files. Made by `open_folder`."""

    path: Path  # or that of a GGUF file
    config: Any
    tokenizer: Any
    files: tuple[Path, ...]
    parameters: int
    weight_bytes: int  # as stored; of a GGUF file once dequantised
    quantised: bool = False
    weights: dict[str, Any] | None = None  # a GGUF file's, unread, by transformers' names

    @cached_property
    def sha256(self) -> str:
        """Of all weight files, in the order of their names."""
        digest = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        return digest.hexdigest()

    def from_pretrained(self, **options: Any) -> Any:
        """transformers' model, by its class's `from_pretrained`."""
        # Importing the model classes takes seconds, which a start on packed weights does not spend.
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

        if self.weights is None:
            return AutoModelForCausalLM.from_pretrained(self.path, **options)
        model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(self.config)]
        return model_class.from_pretrained(
            None, config=self.config, state_dict=dict(self.weights), **options
        )

    @cached_property
    def end_token_ids(self) -> frozenset[int]:
        """Every token that ends an answer: generation config, config and tokenizer may differ."""
        return end_tokens(self.config, self.tokenizer, self.generation_config)

    @cached_property
    def generation_config(self) -> Any:
        """Defaults of generation; None if the folder has none."""
        if not (self.path / "generation_config.json").is_file():
            return None
        return GenerationConfig.from_pretrained(self.path)


def open_folder(path: Path | str) -> ModelFolder:
    """Read everything but the weights. ModelError with the reason if it is not a model folder."""
    path = Path(path)
    _import_config_checks()
    if (file := _gguf_in(path)) is not None:
        return _open_gguf(file)
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} is not a model folder: it has no config.json and no GGUF file")
    files = tuple(sorted(path.glob("*.safetensors")))
    if not files:
        raise ModelError(f"{path} has no *.safetensors weights")
    _check_shards(path, files)
    headers = [_header(file) for file in files]
    shapes = [tensor["shape"] for header in headers for tensor in header.values()]
    try:
        config = AutoConfig.from_pretrained(path)
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"cannot load the model in {path}: {one_line(error)}") from error
    return ModelFolder(
        path=path,
        config=config,
        tokenizer=tokenizer,
        files=files,
        parameters=sum(prod(shape) for shape in shapes),
        weight_bytes=sum(file.stat().st_size for file in files),
    )


def _gguf_in(path: Path) -> Path | None:
    """The GGUF file that a path means: itself, or the only one in a folder without *.safetensors."""
    if path.is_file():
        return path
    found = sorted(path.glob("*.gguf"))
    if not found or any(path.glob("*.safetensors")):
        return None
    if found[1:]:
        names = f"{found[0].name} and {found[1].name}"
        raise ModelError(f"{path} holds {len(found)} GGUF files, {names} first: name one of them")
    return found[0]


def _open_gguf(file: Path) -> ModelFolder:
    from burnish.kernels import gguf_model  # its packages are not needed for other models
    from burnish.kernels.gguf_file import read_gguf

    try:
        found = read_gguf(file)
        config = gguf_model.config_of(found)
        weights = gguf_model.state_dict(found, config)
        tokenizer = gguf_model.tokenizer_of(file, found.metadata)
    except (OSError, ValueError, LookupError, TypeError, StrictDataclassError) as error:
        raise ModelError(f"cannot load the model in {file}: {one_line(error)}") from error
    return ModelFolder(
        path=file,
        config=config,
        tokenizer=tokenizer,
        files=(file,),
        parameters=found.parameters,
        weight_bytes=found.parameters * config.dtype.itemsize,
        quantised=found.dtype is None,
        weights=weights,
    )


def _import_config_checks() -> None:
    """transformers' checks of configs, without the activations whose names they know: importing those
    imports torch's compiler and its distributed tensors, 150 MB and seconds that reading a config is
    not worth. An activation that does not exist is refused when the model is built."""
    name = "transformers.activations"
    if name in sys.modules:
        return
    sys.modules[name] = stand_in = ModuleType(name)
    vars(stand_in)["ACT2FN"] = {}  # as without torch: names are not checked
    try:
        importlib.import_module("transformers.utils.type_validators")
    except ImportError:
        log.debug("this transformers checks its configs elsewhere", exc_info=True)
    finally:
        del sys.modules[name]


def _check_shards(path: Path, files: tuple[Path, ...]) -> None:
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        wanted = set(json.loads(index.read_text())["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{index} cannot be read: {one_line(error)}") from error
    missing = sorted(wanted - {file.name for file in files})
    if missing:
        raise ModelError(f"{path} lacks {len(missing)} of its weight files, {missing[0]} first")


def _header(file: Path) -> dict[str, Any]:
    """Name -> {dtype, shape, data_offsets} of every tensor; ModelError if the file is not whole."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise ModelError(f"{file} is cut short: its header alone is longer than the file")
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{file} is no safetensors file: {one_line(error)}") from error
    if size < 8 + length + end:
        raise ModelError(f"{file} is cut short: {size} bytes of {8 + length + end}")
    return header


def end_tokens(*sources: Any) -> frozenset[int]:
    """The end-of-sequence tokens that configs and tokenizers name."""
    found: set[int] = set()
    for source in sources:
        eos = getattr(source, "eos_token_id", None)
        found.update(eos if isinstance(eos, (list, tuple)) else [] if eos is None else [eos])
    return frozenset(found)


def frame_tokens(tokenizer: Any, ends: frozenset[int]) -> frozenset[int]:
    """Special tokens that are no part of the text: end of sequence, padding, beginning."""
    frame = (getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad"))
    return ends | {token for token in frame if token is not None}


def available_bytes() -> int | None:
    """Memory available on this machine and within its container's limit; None if unknown."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except OSError:
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):
            continue  # no such group, or "max"
    return min(found, default=None)


def one_line(error: BaseException) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())
