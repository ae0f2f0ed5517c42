"""Tiny random models with a module for multi-token prediction, stored as their makers store theirs.

Independent of the package under test.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.tiny_model import build_tiny_model

FAMILIES = ("glm4_moe", "deepseek_v3", "glm4_moe_lite")
DEPTH, HIDDEN = 2, 64  # layers before the module's
PREFIX = f"model.layers.{DEPTH}."


def build_mtp_model(folder: Path, family: str) -> Path:
    """A model of `DEPTH` layers and its module, which is stored like a layer more."""
    layers = {"num_hidden_layers": DEPTH + 1, "tie_word_embeddings": False}
    build_tiny_model(folder, family, **layers)
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(1)

    def norm() -> torch.Tensor:
        return torch.rand(HIDDEN, generator=generator) + 0.5

    joint = torch.randn(HIDDEN, 2 * HIDDEN, generator=generator) * (2 * HIDDEN) ** -0.5
    change(
        folder,
        {
            f"{PREFIX}enorm.weight": norm(),
            f"{PREFIX}hnorm.weight": norm(),
            f"{PREFIX}eh_proj.weight": joint,
            f"{PREFIX}shared_head.norm.weight": norm(),
            f"{PREFIX}shared_head.head.weight": tensors["lm_head.weight"].clone(),
            f"{PREFIX}embed_tokens.weight": tensors["model.embed_tokens.weight"].clone(),
        },
    )
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = DEPTH
    if config.get("mlp_layer_types"):
        config["mlp_layer_types"] = config["mlp_layer_types"][:DEPTH]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def change(folder: Path, tensors: dict[str, torch.Tensor | None]) -> None:
    """Add, replace or (None) remove tensors of a folder."""
    file = folder / "model.safetensors"
    changed: dict[str, torch.Tensor | None] = {**load_file(file), **tensors}
    kept = {name: tensor for name, tensor in changed.items() if tensor is not None}
    save_file(kept, file, metadata={"format": "pt"})


def drop_module(folder: Path) -> None:
    """Leave a checkpoint without the module."""
    names = load_file(folder / "model.safetensors")
    change(folder, {name: None for name in names if name.startswith(PREFIX)})
