"""The training loop: seeded batches, Muon and AdamW, a schedule tied to the time budget, resume.

Every step takes one batch per worker thread, each on a replica that shares the weights: one
operation on one core keeps both cores of a busy laptop at work, where one operation split over
two waits for the slower half (7k against 5k tokens a second).

Left out: several hosts, and mixed precision (slower on the CPUs this is meant for). A run killed
at any moment goes on from its last checkpoint.
"""

import copy
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from burnish.ops.pretrain.dialogue import dialogues
from burnish.ops.pretrain.muon import Muon
from burnish.ops.pretrain.tokenizer import PAD, encode
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func


class PretrainError(Exception):
    """A run that cannot start or go on."""


@dataclass(frozen=True)
class Recipe:
    """What a run is; equal recipes and seeds see equal batches."""

    minutes: float = 60.0
    steps: int | None = None  # a budget in steps instead of minutes: reproducible to the bit
    seed: int = 0
    workers: int = 2
    batch_tokens: int = 3072  # per worker
    learning_rate: float = 2.5e-3
    warmup: int = 100
    decay_share: float = 0.35  # of the budget, at its end
    balance: float = 0.01
    hidden: int = 256
    layers: int = 4
    experts: int = 8
    expert_width: int = 192
    vocab_size: int = 1024
    tokenizer_samples: int = 20_000
    pool: int = 2048  # dialogues sorted by length before they are cut into batches


@dataclass(frozen=True)
class Batch:
    tokens: Tensor  # [rows, length] int64, padded on the right
    targets: Tensor  # [rows, length] bool


@dataclass
class Progress:
    """Where a run stands."""

    step: int = 0
    pool: int = 0  # first pool of dialogues not yet trained on
    tokens: int = 0
    seconds: float = 0.0
    loss: float = float("nan")

    def share(self, recipe: Recipe) -> float:
        if recipe.steps is not None:
            return self.step / recipe.steps
        return self.seconds / (recipe.minutes * 60)


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Qwen3MoeForCausalLM:
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=2 * recipe.hidden,
        moe_intermediate_size=recipe.expert_width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.hidden // 64,
        num_key_value_heads=max(1, recipe.hidden // 128),
        head_dim=64,  # pyright: ignore[reportCallIssue]
        num_experts=recipe.experts,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        router_aux_loss_coef=recipe.balance,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(recipe.seed)
    config._experts_implementation = "eager"  # the fastest to train on CPU at this size
    return Qwen3MoeForCausalLM(config).float().train()


def batches_of_pool(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, pool: int) -> list[Batch]:
    """The `pool`-th stretch of the corpus as batches of similar length, in random order."""
    rng = Random(f"{recipe.seed} {pool}")
    pad = tokenizer.convert_tokens_to_ids(PAD)
    assert isinstance(pad, int)
    encoded = [encode(tokenizer, d) for d in islice(dialogues(rng), recipe.pool)]
    encoded.sort(key=lambda pair: len(pair[0]))
    batches, rows = [], []
    for pair in encoded:
        if rows and len(pair[0]) * (len(rows) + 1) > recipe.batch_tokens:
            batches.append(_padded(rows, pad))
            rows = []
        rows.append(pair)
    batches.append(_padded(rows, pad))
    rng.shuffle(batches)
    return batches


def _padded(rows: list[tuple[list[int], list[bool]]], pad: int) -> Batch:
    length = max(len(ids) for ids, _ in rows)
    tokens = torch.full((len(rows), length), pad)
    targets = torch.zeros((len(rows), length), dtype=torch.bool)
    for row, (ids, marks) in enumerate(rows):
        tokens[row, : len(ids)] = torch.tensor(ids)
        targets[row, : len(ids)] = torch.tensor(marks)
    return Batch(tokens, targets)


def _pools(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, first: int) -> Iterator[list[Batch]]:
    """Pools in order, each made while the one before is trained on."""
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(batches_of_pool, recipe, tokenizer, first)
        while True:
            batches, first = coming.result(), first + 1
            coming = maker.submit(batches_of_pool, recipe, tokenizer, first)
            yield batches


def loss_of(model: Qwen3MoeForCausalLM, batch: Batch, balance: float) -> tuple[Tensor, Tensor]:
    """(cross entropy per target token, the same plus the balancing loss of the router)

    Padding is on the right and attention is causal, so no mask is needed.
    """
    out = model.model(input_ids=batch.tokens, output_router_logits=True, use_cache=False)
    wanted = batch.targets[:, 1:]
    logits = model.lm_head(out.last_hidden_state[:, :-1][wanted])
    entropy = F.cross_entropy(logits, batch.tokens[:, 1:][wanted])
    config = model.config
    spread = load_balancing_loss_func(
        out.router_logits, config.num_experts, config.num_experts_per_tok
    )
    return entropy, entropy + balance * spread  # pyright: ignore[reportReturnType]


class Replicas:
    """A model and copies that share its weights but not its gradients."""

    def __init__(self, model: Qwen3MoeForCausalLM, workers: int):
        self.models = [model, *(copy.deepcopy(model) for _ in range(workers - 1))]
        for other in self.models[1:]:
            for own, shared in zip(other.parameters(), model.parameters(), strict=True):
                own.data = shared.data
        self.pool = ThreadPoolExecutor(workers)

    def backward(self, batches: list[Batch], balance: float) -> float:
        """Leave the mean gradient of `batches` in the first model; the mean cross entropy."""

        def one(pair: tuple[Qwen3MoeForCausalLM, Batch]) -> float:
            entropy, loss = loss_of(*pair, balance)
            (loss / len(batches)).backward()
            return entropy.item()

        models = self.models[: len(batches)]
        entropies = list(self.pool.map(one, zip(models, batches, strict=True)))
        for other in models[1:]:
            for into, weight in zip(models[0].parameters(), other.parameters(), strict=True):
                if weight.grad is not None:
                    into.grad = weight.grad if into.grad is None else into.grad.add_(weight.grad)
                    weight.grad = None
        return sum(entropies) / len(entropies)


def optimizers(
    model: Qwen3MoeForCausalLM, recipe: Recipe, pool: Executor | None = None
) -> list[torch.optim.Optimizer]:
    """Muon for attention and experts; AdamW for embeddings, norms and the router."""
    matrices, rest = [], []
    for name, weight in model.named_parameters():
        small = weight.ndim < 2 or "embed" in name or "mlp.gate.weight" in name
        (rest if small else matrices).append(weight)
    return [
        Muon(matrices, lr=recipe.learning_rate, weight_decay=0.01, pool=pool),
        torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate_at(share: float, step: int, recipe: Recipe) -> float:
    """Warm up, stay, fall to zero at the end of the budget (stays extendable until it falls)."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    return warm * max(0.0, min(1.0, (1.0 - share) / recipe.decay_share))


def train(
    folder: Path,
    recipe: Recipe,
    model: Qwen3MoeForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    *,
    resume: bool = True,
    save_every_s: float = 240.0,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train until the budget is spent; leave a checkpoint and the model in `folder`."""
    torch.set_num_threads(1)  # the workers are the parallelism
    replicas = Replicas(model, recipe.workers)
    parts = optimizers(model, recipe, replicas.pool)
    progress = Progress()
    if resume and (folder / "training.pt").exists():
        progress = _restore(folder, model, parts)
    saved = time.monotonic()
    for batches in _pools(recipe, tokenizer, progress.pool):
        for at in range(0, len(batches), recipe.workers):
            started = time.monotonic()
            share = progress.share(recipe)
            if share >= 1:
                save(folder, recipe, model, tokenizer, parts, progress)
                return progress
            rate = recipe.learning_rate * rate_at(share, progress.step, recipe)
            taken = batches[at : at + recipe.workers]
            progress.loss = replicas.backward(taken, recipe.balance)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for part in parts:
                for group in part.param_groups:
                    group["lr"] = rate
                part.step()
                part.zero_grad()
            progress.step += 1
            progress.tokens += sum(batch.tokens.numel() for batch in taken)
            progress.seconds += time.monotonic() - started
            on_step(progress)
        progress.pool += 1
        if time.monotonic() - saved > save_every_s:
            save(folder, recipe, model, tokenizer, parts, progress)
            saved = time.monotonic()
    raise AssertionError("pools never end")


def save(
    folder: Path,
    recipe: Recipe,
    model: Qwen3MoeForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    parts: list[torch.optim.Optimizer],
    progress: Progress,
) -> None:
    """The model as bf16 Hugging Face files, and what a resume needs, each replaced whole."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "recipe": asdict(recipe),
        "progress": asdict(progress),
        "model": model.state_dict(),
        "optimizers": [part.state_dict() for part in parts],
    }
    draft = folder / "training.pt.new"
    torch.save(state, draft)
    os.replace(draft, folder / "training.pt")
    export(folder, model, tokenizer)


def export(folder: Path, model: Qwen3MoeForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / "draft"
    config = type(model.config)(**{**model.config.to_dict(), "dtype": "bfloat16"})
    small = Qwen3MoeForCausalLM(config).bfloat16()
    small.load_state_dict(model.state_dict())
    small.generation_config.update(
        do_sample=True, temperature=1.0, eos_token_id=tokenizer.eos_token_id
    )
    small.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    # The name that every version of transformers, and vLLM, knows.
    config_file = draft / "tokenizer_config.json"
    settings = json.loads(config_file.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    for origin in ("is_local", "local_files_only"):  # where it was loaded from is nobody's business
        settings.pop(origin, None)
    config_file.write_text(json.dumps(settings, indent=2) + "\n")
    for file in draft.iterdir():
        os.replace(file, folder / file.name)
    draft.rmdir()


def _restore(
    folder: Path, model: Qwen3MoeForCausalLM, parts: list[torch.optim.Optimizer]
) -> Progress:
    state = torch.load(folder / "training.pt", weights_only=True)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise PretrainError(f"{folder} holds a run of another shape: {error}") from error
    for part, saved in zip(parts, state["optimizers"], strict=True):
        part.load_state_dict(saved)
    return Progress(**state["progress"])
