"""The Tinker trainer: optimiser steps taken by a service that speaks the Tinker API, off the box.

Rollouts and their advantages go there, the adapter comes back after each step as peft's files; sampling
stays with our own engine. The step is `PolicyTrainer`'s with one difference: a service computes no loss
over the vocabulary, so the KL penalty is a reward on the tokens that were drawn, as Tinker's cookbook has
it: each advantage gets `kl_weight` times the batch's mean of log p_behaviour - log p_base, less its own.
That is the same gradient in expectation, for rollouts of the present policy; for older ones it pulls from
the policy that acted.

A service takes no adapter from outside. Training starts from its own fresh one, or from a checkpoint of
its own, whose path is all that a checkpoint of ours holds of the optimiser.

What a `StepReport` of this trainer says:

* `kl`, `entropy`: estimates, means over the drawn tokens by their truncated importance weights: of
  (p_base / p - 1) - log(p_base / p), which is never negative (Schulman's k3), and of -log p. The exact ones
  need the whole vocabulary, which the service does not tell.
* `grad_norm`: the service's `unclipped_grad_l2:mean`, and NaN where it tells none.

Needs the extra `tinker`. Left out: what the service costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from burnish.kernels.lora import ATTENTION, LATENT, AdapterWeights
from burnish.kernels.model import LoadedModel
from burnish.learner.settings import LearnerSettings
from burnish.learner.training.batching import TokenBatch, answer_logprobs
from burnish.learner.training.optimiser import BETAS, write_state
from burnish.learner.training.protocol import NOTHING, StepReport
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.tinker_errors import TrainingServiceError
from burnish.learner.training.trainer import TrainerConfig
from torch import Tensor

if TYPE_CHECKING:
    from burnish.learner.training.tinker_session import TinkerConnection, TinkerRun

PATH = "tinker.path"  # of the service's checkpoint, in the optimiser's state, as bytes
GRAD_NORM = "unclipped_grad_l2:mean"
EPSILON = 1e-8  # torch's own, which PolicyTrainer has
KEPT = 2  # checkpoints of one run: the last that we stored may still be the one before the last
COMPARED = 4  # rollouts on which our base and the service's are compared
SAME_BASE = 0.5  # nats per token that rounding may make between them


def open_connection(settings: LearnerSettings) -> TinkerConnection:
    """A session at BURNISH_TINKER_URL. Raises TrainingServiceError."""
    if settings.tinker_key is None or settings.tinker_model is None:
        lacking = "BURNISH_TINKER_MODEL" if settings.tinker_key else "BURNISH_TINKER_KEY"
        raise TrainingServiceError(f"training at a Tinker service needs {lacking}")
    try:
        from burnish.learner.training.tinker_session import TinkerConnection
    except ImportError as error:
        raise TrainingServiceError(
            "training at a Tinker service needs an extra: pip install 'burnish[tinker]'"
        ) from error
    key = settings.tinker_key.get_secret_value()
    return TinkerConnection(settings.tinker_url, key, settings.tinker_model)


class TinkerTrainer:
    """A `Trainer` at the other end of a connection, which belongs to it from then on."""

    def __init__(
        self,
        model: LoadedModel,
        adapter: AdapterWeights,
        config: TrainerConfig,
        connection: TinkerConnection,
        optimiser_state: Mapping[str, Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.config = model, config
        self._connection = connection
        self._adapter: AdapterWeights | None = adapter
        self._saved: list[str] = []
        self._saved_at: int | None = None
        self._steps = 0
        self._over_budget = False
        self._same_base = False
        try:
            self._run = _run(connection, adapter, optimiser_state or {}, seed)
            self._base = connection.base()
        except TrainingServiceError:
            connection.close()
            raise

    @property
    def adapter(self) -> AdapterWeights:
        """The present weights, downloaded once after each step."""
        if self._adapter is None:
            self._adapter = self._run.export(f"step-{self._steps}", self.model.outline)
        return self._adapter

    def step(self, rollouts: Sequence[Rollout]) -> StepReport:
        """One optimiser step at the service on rollouts that carry advantages. Raises
        TrainingServiceError; the run is then to be resumed from its last checkpoint."""
        rollouts = [rollout for rollout in rollouts if rollout.token_ids]
        total = sum(len(rollout.token_ids) for rollout in rollouts)
        if not total:
            return NOTHING
        config, batch = self.config, TokenBatch.of(rollouts, torch.device("cpu"))
        lengths = [len(rollout.token_ids) for rollout in rollouts]
        base = torch.cat(self._base_logprobs(rollouts))  # [N]
        weights = config.loss_weights(self._over_budget)
        drift = batch.behaviour - base
        advantage = weights.gain * batch.advantage + weights.kl * (drift.mean() - drift)
        # The service sums over tokens, and clips the gradient of the sum.
        logprobs, metrics = self._run.step(
            rollouts, (advantage / total).split(lengths), weights.ratio_cap, self._adam()
        )
        self._steps += 1
        self._adapter = None
        policy = torch.cat(logprobs)
        ratio = (policy - batch.behaviour).exp().clamp(max=weights.ratio_cap)
        to_base = base - policy
        kl = float(ratio @ (to_base.exp() - 1 - to_base) / ratio.sum())
        self._over_budget = kl * total / len(rollouts) > config.kl_budget
        return StepReport(
            answers=len(rollouts),
            tokens=total,
            kl=kl,
            entropy=float(ratio @ -policy / ratio.sum()),
            ratio=float(ratio.mean()),
            grad_norm=metrics.get(GRAD_NORM, math.nan),
        )

    def save_optimiser(self, folder: Path) -> None:
        """Adapter and optimiser are saved at the service; the folder gets the path, as bytes."""
        if self._saved_at != self._steps:
            self._saved.append(self._run.save(f"step-{self._steps}"))
            self._saved_at = self._steps
            while len(self._saved) > KEPT:
                self._connection.forget(self._saved.pop(0))
        path = torch.tensor(list(self._saved[-1].encode()), dtype=torch.uint8)
        write_state(folder, {PATH: path})

    def close(self) -> None:
        """End the session at the service. Checkpoints stay."""
        self._connection.close()

    def _adam(self) -> dict[str, float]:
        beta1, beta2 = BETAS
        return {
            "learning_rate": self.config.learning_rate,
            "beta1": beta1,
            "beta2": beta2,
            "eps": EPSILON,
            "weight_decay": 0.0,
            "grad_clip_norm": self.config.clip_norm,
        }

    def _base_logprobs(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        from burnish.learner.training.tinker_session import base_logprobs

        there = base_logprobs(self._connection, self._base, rollouts)
        if not self._same_base:
            _check_same_base(self.model, rollouts[:COMPARED], torch.cat(there[:COMPARED]))
            self._same_base = True
        return there


def _run(
    connection: TinkerConnection,
    adapter: AdapterWeights,
    optimiser_state: Mapping[str, Tensor],
    seed: int,
) -> TinkerRun:
    """The service's run that stands where `adapter` does."""
    if PATH in optimiser_state:
        return connection.resume(bytes(optimiser_state[PATH].tolist()).decode())
    if any(tensor.any() for name, tensor in adapter.tensors.items() if ".lora_B." in name):
        raise TrainingServiceError(
            "this version was not trained at Tinker, which takes no adapters from outside: start from"
            " the base, or from a version that was"
        )
    targets = {target.rsplit(".", 1)[-1] for target in adapter.spec.targets}
    attention = targets & {*ATTENTION, *LATENT}
    return connection.create(
        adapter.spec.rank, seed, attention=bool(attention), mlp=bool(targets - attention)
    )


def _check_same_base(model: LoadedModel, rollouts: Sequence[Rollout], there: Tensor) -> None:
    """Training another model than the one that answers would fit nothing, silently."""
    here = answer_logprobs(model, rollouts).cpu()
    apart = float((here - there).abs().mean())
    if not apart <= SAME_BASE:
        raise TrainingServiceError(
            "BURNISH_TINKER_MODEL: it is another model than BURNISH_MODEL: their log-probabilities of"
            f" the same answers are {apart:.2f} nats per token apart"
        )
