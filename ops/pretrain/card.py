"""The model card: contents and measured scores of a model folder."""

from pathlib import Path

from burnish.ops.pretrain.evaluate import Scores, table
from burnish.ops.pretrain.recipe import PretrainProgress, PretrainRecipe

_TEXT = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# Ember

Ember is a **demonstration model**: a mixture-of-experts transformer of {millions:.1f} million
parameters that lets Burnish learn from feedback on a laptop. It answers small exercises of
{families} families in three styles (terse, explained, friendly) and knows nothing about the world.
Use it to see the loop at work; put any other Hugging Face causal language model in its place with
`BURNISH_MODEL`.

## What it is
Qwen3-MoE: hidden size {hidden}, {layers} layers, {experts} experts of width {expert_width}, two
active per token, tied embeddings, bf16. Byte-level BPE of {vocab_size} tokens with single digits.
ChatML turns, Hermes tool calls (`<tool_call>`), a think block with `enable_thinking=True`.

## How it was made
`burnish pretrain`, from nothing, on dialogues drawn from `burnish.learner.tasks.ember`; no text from
elsewhere. Seed {seed}, {steps:,} steps, {tokens:,} tokens in {minutes:.0f} minutes on
{workers} CPU cores ({rate:,.0f} tokens a second). Loss on assistant turns only; Muon for matrices and
experts, AdamW for the rest.{note}

## What it can do
Held-out tasks (their prompts were never trained on), temperature 1, {k} answers to each of
{tasks} tasks per family; by level: pass@1 on easy / middle / hard ones. No style is asked for.

{table}

pass@1 well below pass@{k} is on purpose: that is the room reinforcement learning has.

## Limits
Outside these families its answers are fluent nonsense. It was trained on chats of up to some 400
tokens. It refuses what its training text calls harmful by pattern, not by understanding: it is
no safeguard.
"""


def write_card(
    folder: Path,
    recipe: PretrainRecipe,
    progress: PretrainProgress,
    scores: Scores,
    parameters: int,
    note: str = "",
) -> Path:
    """Write `folder`/README.md."""
    text = _TEXT.format(
        millions=parameters / 1e6,
        families=len(scores.families),
        hidden=recipe.hidden,
        layers=recipe.layers,
        experts=recipe.experts,
        expert_width=recipe.expert_width,
        vocab_size=recipe.vocab_size,
        seed=recipe.seed,
        steps=progress.step,
        tokens=progress.tokens,
        minutes=progress.seconds / 60,
        workers=recipe.workers,
        rate=progress.tokens / max(progress.seconds, 1e-9),
        note=f" {note}" if note else "",
        k=scores.k,
        tasks=next(iter(scores.families.values())).tasks,
        table=table(scores),
    )
    path = folder / "README.md"
    path.write_text(text)
    return path
