"""Features of answers: the frozen base's hidden states, pooled, and manner; what the reward model sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from burnish.kernels.model import LoadedModel
from burnish.serving.reward.manner import NAMES, manner
from torch import Tensor

PromptAndAnswer = tuple[Sequence[int], Sequence[int]]  # token ids
MANNER = len(NAMES)


def layers_read(depth: int) -> int:
    """The layers of a base of that depth after which its hidden states are read: half of them, where they
    tell most about an answer's style."""
    return max(1, depth // 2)


def base_features(model: LoadedModel, answers: Sequence[PromptAndAnswer]) -> Tensor:
    """Features [N, 3H + MANNER] of answers with their prompts, in the order given. The prompts and answers
    must not be empty."""
    sequences = [(*prompt, *answer) for prompt, answer in answers]
    read = model.states(sequences, layers_read(model.config.num_hidden_layers))
    return torch.stack(
        [
            answer_features(
                states[: len(prompt)], states[len(prompt) :], text_of(model.tokenizer, answer)
            )
            for (prompt, answer), states in zip(answers, read, strict=True)
        ]
    )


def answer_features(asked: Tensor, said: Tensor, text: str) -> Tensor:
    """The features [3H + MANNER] of a prompt and an answer, of their hidden states [T, H] and the answer's
    text: the mean over the prompt's tokens, the mean over the answer's, the answer's last token, and how
    it is put."""
    told = manner(text, len(said)).to(said)
    return torch.cat([asked.mean(0), said.mean(0), said[-1], told])


def text_of(tokenizer: Any, token_ids: Sequence[int]) -> str:
    """An answer as people read it, without the tokens that end it."""
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=True))


def split(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features [N, 3H + MANNER] as those of the prompt [N, H], of the answer's hidden states [N, 2H] and of
    its manner [N, MANNER]."""
    size = (features.shape[1] - MANNER) // 3
    prompts, answers, told = features.split([size, 2 * size, MANNER], 1)
    return prompts, answers, told
