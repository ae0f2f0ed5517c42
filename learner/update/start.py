"""Where the training of an update starts: a checkpoint, the parent's state, or a fresh adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from burnish.kernels.lora import AdapterWeights, LoraSpec, default_targets, init_adapter
from burnish.kernels.model import LoadedModel
from burnish.learner.settings import LearnerSettings
from burnish.learner.training.checkpoint import Checkpoint, TrainingProgress
from torch import Tensor


@dataclass(frozen=True)
class TrainingStart:
    """Weights, optimiser and rule state to start from, and the progress made so far."""

    adapter: AdapterWeights
    progress: TrainingProgress
    optimiser: Mapping[str, Tensor] = field(default_factory=dict)
    rule_state: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def resume(cls, saved: Checkpoint) -> TrainingStart:
        """Go on with an interrupted update."""
        return cls(saved.adapter, saved.progress, saved.optimiser, saved.rule_state)

    @classmethod
    def child(cls, parent: Checkpoint, progress: TrainingProgress) -> TrainingStart:
        """Begin a new update from the parent's last checkpoint."""
        return cls(parent.adapter, progress, parent.optimiser, parent.rule_state)


def next_start(
    parent: Checkpoint, progress: TrainingProgress, model: LoadedModel, settings: LearnerSettings
) -> TrainingStart:
    """From the parent's checkpoint, or anew from the base when it is time: then nothing stays in the
    weights that no judgement stands for any more."""
    since_base = parent.progress.since_base + 1
    if settings.rebuild_every and since_base >= settings.rebuild_every:
        anew = replace(progress, since_base=0)
        return TrainingStart(fresh_adapter(model, settings), anew, rule_state=parent.rule_state)
    return TrainingStart.child(parent, replace(progress, since_base=since_base))


def fresh_adapter(model: LoadedModel, settings: LearnerSettings) -> AdapterWeights:
    """A LoRA adapter that does not change the base yet."""
    spec = LoraSpec(settings.lora_rank, settings.lora_alpha, default_targets(model.outline))
    return init_adapter(model.outline, spec, settings.seed)
