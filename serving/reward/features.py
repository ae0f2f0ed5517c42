"""Features of answers: the frozen base's hidden states, pooled; what the reward model sees of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from burnish.kernels.model import LoadedModel
from torch import Tensor

PromptAndAnswer = tuple[Sequence[int], Sequence[int]]  # token ids


def layers_read(depth: int) -> int:
    """The layers of a base of that depth after which its hidden states are read: half of them, where they
    tell most about an answer's style."""
    return max(1, depth // 2)


def base_features(model: LoadedModel, answers: Sequence[PromptAndAnswer]) -> Tensor:
    """Features [N, 3H] of answers with their prompts, in the order given. The prompts and answers must not
    be empty."""
    sequences = [(*prompt, *answer) for prompt, answer in answers]
    read = model.states(sequences, layers_read(model.config.num_hidden_layers))
    return torch.stack(
        [
            pooled(states[: len(prompt)], states[len(prompt) :])
            for (prompt, _), states in zip(answers, read, strict=True)
        ]
    )


def pooled(asked: Tensor, said: Tensor) -> Tensor:
    """The features [3H] of hidden states [T, H] of a prompt and of an answer: the mean over the prompt's
    tokens, the mean over the answer's, and the answer's last token."""
    return torch.cat([asked.mean(0), said.mean(0), said[-1]])
