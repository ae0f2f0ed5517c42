"""The policy trainer: an adapter in memory that samples rollouts and takes optimiser steps.

It samples through the engine that also serves and trains the same tensors through the same model
code, so the probabilities that act are those that learn. Every update rule shares one loss (loss.py).
Left out: sharding; one process holds the model, in float32 (fsdp.py shards it).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from burnish.kernels.lora import AdapterWeights
from burnish.kernels.model import LoadedModel
from burnish.learner.training.batching import chunks
from burnish.learner.training.loss import LossWeights, policy_loss
from burnish.learner.training.protocol import NOTHING, StepReport
from burnish.learner.training.rollouts import Rollout, Sampler, generate
from burnish.serving.engine import Request, SamplingParams
from torch import Tensor

# The trainer's own slot in the model's adapter tables; the engine numbers its own from one.
SLOT = 1 << 20
BETAS = (0.9, 0.99)  # of AdamW
ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainerConfig:
    """Of the optimiser and the loss. KL in nats per token; `ratio_cap` truncates importance weights."""

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


def new_optimiser(tensors: Sequence[Tensor], config: TrainerConfig) -> torch.optim.AdamW:
    """AdamW as every trainer of ours runs it."""
    return torch.optim.AdamW(tensors, lr=config.learning_rate, betas=BETAS, weight_decay=0.0)


class PolicyTrainer:
    """Adapter, optimiser and the two ways of using them: `sample` and `step`."""

    def __init__(
        self,
        model: LoadedModel,
        sampler: Sampler,
        adapter: AdapterWeights,
        config: TrainerConfig,
        optimiser_state: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self._sampler = sampler
        self._published = itertools.count()
        self._sampling_adapter: str | None = None
        self._over_budget = False
        self.adapter = adapter.trainable()
        self._tensors = dict(self.adapter.tensors)
        self._optimiser = new_optimiser(list(self._tensors.values()), config)
        if optimiser_state:
            self._load_optimiser_state(optimiser_state)

    # -- sampling --------------------------------------------------------------------------

    def sample(
        self, prompts: Sequence[tuple[int, ...]], *, samples: int, max_tokens: int, seed: int
    ) -> list[list[Rollout]]:
        """`samples` rollouts of each prompt under the present weights, at temperature 1, in one
        batch; grouped by prompt."""
        name = self._publish()
        requests = [
            Request(
                id=f"{name}-{index}-{number}",
                prompt_ids=prompt,
                params=SamplingParams(max_tokens=max_tokens, seed=seed + index * samples + number),
                adapter=name,
            )
            for index, prompt in enumerate(prompts)
            for number in range(samples)
        ]
        rollouts = generate(self._sampler, requests)
        return [rollouts[i : i + samples] for i in range(0, len(rollouts), samples)]

    def close(self) -> None:
        """Free the adapter slots of sampler and model."""
        if self._sampling_adapter is not None:
            self._sampler.unload_adapter(self._sampling_adapter)
            self._sampling_adapter = None
        self.model.set_adapter(SLOT, None)

    def _publish(self) -> str:
        """Give the sampler the present weights, under a new adapter name."""
        if self._sampling_adapter is not None:
            self._sampler.unload_adapter(self._sampling_adapter)
        self._sampling_adapter = f"trainer/{next(self._published)}"
        self._sampler.set_adapter_weights(self._sampling_adapter, self.adapter.detached())
        return self._sampling_adapter

    # -- training --------------------------------------------------------------------------

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
        self._over_budget = kl_mean > config.kl_budget
        return StepReport(len(rollouts), total, kl_mean, entropy_mean, ratio_mean, float(norm))

    def optimiser_state(self) -> dict[str, Tensor]:
        """AdamW's step count and moments, as `<key>.<parameter>`."""
        state = self._optimiser.state
        return {
            f"{key}.{name}": torch.as_tensor(value).clone()
            for name, tensor in self._tensors.items()
            for key, value in state[tensor].items()
        }

    def _load_optimiser_state(self, state: Mapping[str, Tensor]) -> None:
        for name, tensor in self._tensors.items():
            saved = {
                key: state[f"{key}.{name}"].clone()
                for key in ADAM_STATE
                if f"{key}.{name}" in state
            }
            if len(saved) == len(ADAM_STATE) and saved["exp_avg"].shape == tensor.shape:
                self._optimiser.state[tensor] = saved
