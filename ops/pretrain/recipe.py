"""A pretraining run's recipe and progress."""

from dataclasses import dataclass


class PretrainError(Exception):
    """A run that cannot be started or resumed."""


@dataclass(frozen=True)
class PretrainRecipe:
    """Budget, model shape and optimisation; equal recipes draw equal batches."""

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


@dataclass
class PretrainProgress:
    """State of a run, kept in its checkpoint."""

    step: int = 0
    pool: int = 0  # first pool of dialogues not yet trained on
    tokens: int = 0
    seconds: float = 0.0
    loss: float = float("nan")

    def share(self, recipe: PretrainRecipe) -> float:
        if recipe.steps is not None:
            return self.step / recipe.steps
        return self.seconds / (recipe.minutes * 60)
