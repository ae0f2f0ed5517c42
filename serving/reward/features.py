"""Features of answers: the frozen base's hidden states, pooled; what the reward model sees of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from burnish.kernels.model import LoadedModel
from torch import Tensor

PromptAndAnswer = tuple[Sequence[int], Sequence[int]]  # token ids


def base_features(model: LoadedModel, answers: Sequence[PromptAndAnswer]) -> Tensor:
    """Features [N, 3H] of answers with their prompts, in the order given: the mean over the prompt's
    tokens, the mean over the answer's, and the answer's last token.

    They are read at half the model's depth, where hidden states tell most about an answer's style. The
    prompts and answers must not be empty.
    """
    layers = max(1, model.config.num_hidden_layers // 2)
    sequences = [(*prompt, *answer) for prompt, answer in answers]
    rows = []
    for (prompt, _), states in zip(answers, model.states(sequences, layers), strict=True):
        asked, said = states[: len(prompt)], states[len(prompt) :]
        rows.append(torch.cat([asked.mean(0), said.mean(0), said[-1]]))
    return torch.stack(rows)
