"""The policy trainer: an adapter in memory that takes optimiser steps, in one process.

Every update rule shares one loss (loss.py). Left out: sharding (fsdp.py) and sampling (sampling.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from burnish.kernels.lora import AdapterWeights
from burnish.kernels.model import LoadedModel
from burnish.learner.training.batching import chunks
from burnish.learner.training.loss import LossWeights, policy_loss
from burnish.learner.training.optimiser import new_optimiser, state_of, take_up, write_state
from burnish.learner.training.protocol import NOTHING, StepReport
from burnish.learner.training.rollouts import Rollout
from torch import Tensor

# The trainer's own slot in the model's adapter tables; the engine numbers its own from one.
SLOT = 1 << 20


@dataclass(frozen=True)
class TrainerConfig:
    """Of the optimiser and the loss. The KL budget is in nats per answer; `ratio_cap` truncates importance
    weights."""

    learning_rate: float
    clip_norm: float
    kl_weight: float
    kl_budget: float
    ratio_cap: float = 2.0

    def loss_weights(self, over_budget: bool) -> LossWeights:
        """Past its KL budget a policy has only the KL penalty, four times as strong, so that it
        returns within the budget before it learns on."""
        if over_budget:
            return LossWeights(0.0, 4 * self.kl_weight, self.ratio_cap)
        return LossWeights(1.0, self.kl_weight, self.ratio_cap)


class PolicyTrainer:
    """Adapter and optimiser, on a model that others use too."""

    def __init__(
        self,
        model: LoadedModel,
        adapter: AdapterWeights,
        config: TrainerConfig,
        optimiser_state: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.adapter = adapter.trainable()
        self._tensors = dict(self.adapter.tensors)
        self._optimiser = new_optimiser(list(self._tensors.values()), config.learning_rate)
        self._over_budget = take_up(self._optimiser, self._tensors, optimiser_state or {})

    def step(self, rollouts: Sequence[Rollout]) -> StepReport:
        """One optimiser step on rollouts that carry advantages.

        After a step whose KL exceeded the budget, the policy first returns within it; see
        `TrainerConfig.loss_weights`.
        """
        rollouts = [rollout for rollout in rollouts if rollout.token_ids]
        total = sum(len(rollout.token_ids) for rollout in rollouts)
        if not total:
            return NOTHING
        config, sums = self.config, torch.zeros(3, device=self.model.device)
        weights = config.loss_weights(self._over_budget)
        self.model.set_adapter(SLOT, self.adapter)
        self._optimiser.zero_grad(set_to_none=True)
        for chunk in chunks(rollouts):
            loss, of_chunk = policy_loss(self.model, chunk, SLOT, weights)
            (loss / total).backward()
            sums += of_chunk
        norm = torch.nn.utils.clip_grad_norm_(list(self._tensors.values()), config.clip_norm)
        self._optimiser.step()
        kl_mean, entropy_mean, ratio_mean = (sums / total).tolist()
        report = StepReport(len(rollouts), total, kl_mean, entropy_mean, ratio_mean, float(norm))
        self._over_budget = report.kl_per_answer > config.kl_budget
        return report

    def save_optimiser(self, folder: Path) -> None:
        write_state(folder, state_of(self._optimiser, self._tensors, self._over_budget))

    def close(self) -> None:
        """Free the adapter's slot in the model."""
        self.model.set_adapter(SLOT, None)
