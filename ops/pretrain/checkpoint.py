"""Checkpoints of a pretraining run, and its model as a Hugging Face folder."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from burnish.ops.pretrain.recipe import PretrainError, PretrainProgress, PretrainRecipe
from transformers import PreTrainedTokenizerFast, Qwen3MoeForCausalLM

FILE_NAME = "training.pt"


def save(
    folder: Path,
    recipe: PretrainRecipe,
    model: Qwen3MoeForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    optimizers: list[torch.optim.Optimizer],
    progress: PretrainProgress,
) -> None:
    """Write the checkpoint and the exported model; each file is replaced atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "recipe": asdict(recipe),
        "progress": asdict(progress),
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    draft = folder / f"{FILE_NAME}.new"
    torch.save(state, draft)
    os.replace(draft, folder / FILE_NAME)
    export(folder, model, tokenizer)


def export(folder: Path, model: Qwen3MoeForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write the model as bf16 Hugging Face files."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / "draft"
    described = {"dtype": "bfloat16", "task_pack": "ember"}  # what the learner rehearses with it
    config = type(model.config)(**{**model.config.to_dict(), **described})
    exported = Qwen3MoeForCausalLM(config).bfloat16()
    exported.load_state_dict(model.state_dict())
    exported.generation_config.update(
        do_sample=True, temperature=1.0, eos_token_id=tokenizer.eos_token_id
    )
    exported.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    # The class name that all versions of transformers, and vLLM, can load.
    config_file = draft / "tokenizer_config.json"
    settings = json.loads(config_file.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    for origin in ("is_local", "local_files_only"):  # traces of the machine it was made on
        settings.pop(origin, None)
    config_file.write_text(json.dumps(settings, indent=2) + "\n")
    for file in draft.iterdir():
        os.replace(file, folder / file.name)
    draft.rmdir()


def restore(
    folder: Path, model: Qwen3MoeForCausalLM, optimizers: list[torch.optim.Optimizer]
) -> PretrainProgress:
    """Load weights and optimizer states. Raises PretrainError for a run of another shape."""
    state = torch.load(folder / FILE_NAME, weights_only=True)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise PretrainError(f"{folder} holds a run of another shape: {error}") from error
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return PretrainProgress(**state["progress"])
