"""TRL's own KTO and DPO trainers on rows that `burnish export` writes: the field's baseline, on a CPU.

`python -m burnish.ops.bench.lib.trl_baseline kto MODEL ROWS.jsonl OUT` trains a LoRA adapter by peft, of the
rank and on the modules that ours has, fused experts among them, and writes it in peft's format, which our
engine loads. Answers are written as serving writes them: the chat template with thinking off, up to
the token that ends the turn; rows without a table's conversational form, so that TRL adds nothing to them.
What is not said here is TRL's default: AdamW, a rate that falls linearly to zero, gradients clipped at one.

Needs the extra `baselines`. Left out: what TRL's trainers do on a GPU.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from typing import Any, Literal

from burnish.kernels.folder import open_folder
from burnish.kernels.lora import default_targets
from burnish.learner.rules.kto import Lambdas
from burnish.learner.training.prompts import for_template
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from transformers.utils import logging as transformers_logging
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

Method = Literal["kto", "dpo"]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class BaselineConfig:
    """What a run of TRL is told; the rest is its default."""

    learning_rate: float = 1e-3
    beta: float = 0.1
    epochs: float = 2.0
    batch: int = 32
    rank: int = 16
    alpha: int = 32
    seed: int = 0


def train_by_trl(
    method: Method, model: Path, rows: Iterable[Row], out: Path, config: BaselineConfig
) -> Path:
    """Train an adapter on the model in a folder; returns the adapter's folder, in `out`.

    Rows are read in an order that follows from the seed: KTO's batches are fixed by it. In KTO the rarer
    label weighs more, as in our own rule `kto`, so that both weigh the same.
    """
    folder = open_folder(model)
    texts = [written(folder.tokenizer, row) for row in rows]
    Random(config.seed).shuffle(texts)
    base = folder.from_pretrained(dtype="float32")
    targets = default_targets(base)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=[name for name in targets if ".experts." not in name],
        target_parameters=[name for name in targets if ".experts." in name] or None,
        task_type="CAUSAL_LM",
    )
    trainer_class, arguments = _arguments(method, texts, out, config)
    trainer = trainer_class(
        base,
        args=arguments,
        train_dataset=Dataset.from_list(texts),
        processing_class=folder.tokenizer,
        peft_config=lora,
    )
    trainer.train()
    trainer.save_model(str(out / "adapter"))
    return out / "adapter"


def _arguments(
    method: Method, rows: Sequence[Row], out: Path, config: BaselineConfig
) -> tuple[Any, Any]:
    """TRL's trainer and its arguments."""
    common: dict[str, Any] = {
        "output_dir": str(out),
        "learning_rate": config.learning_rate,
        "beta": config.beta,
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": config.batch,
        "seed": config.seed,
        "router_aux_loss_coef": 0.0,  # the published losses do not balance experts
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }
    if method == "dpo":
        return DPOTrainer, DPOConfig(**common)
    liked = sum(row["label"] for row in rows)
    lambdas = Lambdas.balancing(liked, len(rows) - liked)
    return KTOTrainer, KTOConfig(
        desirable_weight=lambdas.desirable, undesirable_weight=lambdas.undesirable, **common
    )


def written(tokenizer: Any, row: Row) -> dict[str, Any]:
    """A row's chats as texts: `prompt`, and what the assistant answered, each up to its end of turn."""
    tools = json.loads(row["tools"]) if row.get("tools") else None
    messages = [for_template(message) for message in row["prompt"]]

    def rendered(chat: Sequence[Row], **options: Any) -> str:
        return tokenizer.apply_chat_template(
            chat, tools=tools, tokenize=False, enable_thinking=False, **options
        )

    prompt, end = rendered(messages, add_generation_prompt=True), tokenizer.eos_token

    def answer(said: Sequence[Row]) -> str:
        whole = rendered([*messages, *map(for_template, said)])
        # Some templates write thinking off into a prompt, and leave it out of what has been said.
        text = whole.removeprefix(prompt) if whole.startswith(prompt) else said[-1]["content"]
        return text[: text.rindex(end)] + end if end in text else text + end

    if "label" in row:
        found = {"completion": answer(row["completion"]), "label": bool(row["label"])}
    else:
        found = {"chosen": answer(row["chosen"]), "rejected": answer(row["rejected"])}
    # TRL's tokenizer begins every text by itself.
    begins = tokenizer("")["input_ids"] == [tokenizer.bos_token_id]
    return {"prompt": prompt.removeprefix(tokenizer.bos_token) if begins else prompt, **found}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("method", choices=["kto", "dpo"])
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("out", type=Path)
    for field in fields(BaselineConfig):
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(flag, type=type(field.default), default=field.default)
    options = vars(parser.parse_args(arguments))
    method, model, rows, out = (options.pop(n) for n in ("method", "model", "rows", "out"))
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    with rows.open() as lines:
        read = [json.loads(line) for line in lines]
    print(train_by_trl(method, model, read, out, BaselineConfig(**options)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
