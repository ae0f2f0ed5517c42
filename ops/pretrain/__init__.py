"""`burnish pretrain`: teach the small model that ships with Burnish, from nothing.

Tokenizer, chat template and weights come out as one Hugging Face folder. Everything it learns is
drawn from burnish.learner.tasks; no text is downloaded.
"""

import os
import sys
from pathlib import Path

from burnish.ops.pretrain.train import PretrainError, Progress, Recipe

__all__ = ["PretrainError", "Progress", "Recipe", "main"]


def main(
    out: Path,
    minutes: float = 60.0,
    seed: int = 0,
    resume: bool = True,
    threads: int | None = None,
    steps: int | None = None,
    save_every_s: float = 240.0,
    recipe: Recipe | None = None,
    measure: int = 32,
) -> Progress:
    """Train for `minutes` (of training, over all resumes) and leave the model in `out`, with a
    card (README.md) of what it scores on `measure` held-out tasks per family (0: no card).

    Killed and called again with the same `out`, it goes on from its last checkpoint. Raises
    PretrainError where `out` holds a run of another shape.
    """
    from burnish.ops.pretrain.tokenizer import learn_tokenizer
    from burnish.ops.pretrain.train import new_model, train
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from transformers import AutoTokenizer

    recipe = recipe or Recipe(
        minutes=minutes, steps=steps, seed=seed, workers=threads or min(4, os.cpu_count() or 1)
    )
    out = Path(out)
    if resume and (out / "tokenizer.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(out)
    else:
        tokenizer = learn_tokenizer(recipe.seed, recipe.vocab_size, recipe.tokenizer_samples)
    model = new_model(recipe, tokenizer)
    console = Console(file=sys.stderr)
    with Bar(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        line = bar.add_task("pretraining", total=1.0)

        def show(progress: Progress) -> None:
            rate = progress.tokens / max(progress.seconds, 1e-9)
            bar.update(
                line,
                completed=min(1.0, progress.share(recipe)),
                description=f"step {progress.step}  loss {progress.loss:.3f}  {rate:,.0f} tok/s",
            )
            if not console.is_terminal and progress.step % 50 == 0:
                console.print(
                    f"step {progress.step} share {progress.share(recipe):.3f} "
                    f"loss {progress.loss:.3f} tokens {progress.tokens:,} {rate:,.0f} tok/s"
                )

        progress = train(
            out, recipe, model, tokenizer,
            resume=resume, save_every_s=save_every_s, on_step=show,
        )  # fmt: skip
    if measure:
        console.print("measuring it on held-out tasks")
        console.print(card(out, recipe, progress, measure))
    return progress


def card(out: Path, recipe: Recipe, progress: Progress, measure: int, note: str = "") -> str:
    """Measure the model in `out`, write its card, and return the table of scores."""
    from burnish.ops.pretrain.card import write_card
    from burnish.ops.pretrain.evaluate import evaluate, table
    from burnish.serving.engine import LocalEngine

    engine = LocalEngine(out, max_running=64, max_model_len=768)
    scores = evaluate(engine, per_family=measure, seed=recipe.seed)
    parameters = sum(p.numel() for p in engine.model.model.parameters())
    write_card(out, recipe, progress, scores, parameters, note)
    return table(scores)
