"""Judgements with a known truth: four kinds of prompt, two styles of answer, a liked style for each kind."""

import torch
from burnish.learner.reward.evidence import Evidence
from burnish.serving.reward.features import MANNER
from torch import Tensor

WIDTH = 16


def alike_in_manner(hidden: Tensor) -> Tensor:
    """Features of answers with these hidden states [N, 3H] that are all put alike."""
    return torch.cat([hidden, torch.zeros(len(hidden), MANNER)], 1)


def judged(
    count: int,
    *,
    flips: float = 0.2,
    seed: int = 0,
    noise: float = 0.3,
    inverted: bool = False,
    raters: int = 20,
) -> tuple[Evidence, Tensor]:
    """Evidence of thumbs, some on the wrong button, and what is truly liked, [N]."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(4, (count,), generator=generator)
    styles = torch.randint(2, (count,), generator=generator)
    centres = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(99))
    scatter = noise * torch.randn(count, 3 * WIDTH, generator=generator)
    hidden = torch.cat([centres[kinds], centres[4 + styles], centres[4 + styles]], 1) + scatter
    features = alike_in_manner(hidden)
    liked = (kinds % 2 == styles).float()
    if inverted:
        liked = 1 - liked
    flipped = (torch.rand(count, generator=generator) < flips).float()
    names = [f"u{n % raters}" for n in range(count)]
    return Evidence(features, (liked - flipped).abs(), torch.ones(count), names), liked
