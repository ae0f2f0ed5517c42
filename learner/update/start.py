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

FIRST_REBUILD = 4  # updates, before the first that begins anew


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


def next_start(
    parent: Checkpoint,
    progress: TrainingProgress,
    model: LoadedModel,
    settings: LearnerSettings,
    refused: bool = False,
) -> TrainingStart:
    """From the parent's checkpoint, or anew from the base when it is time: then nothing stays in the
    weights that no judgement stands for any more; so too after an update that found that tastes have changed,
    since people judge little of what they like now while it says what they liked. Where an attempt on the
    parent was `refused`, from the parent: one that begins anew has to come as far as it, and would be tried
    again and again."""
    before = parent.progress
    since_base, generation = before.since_base + 1, before.generation + 1
    progress = replace(progress, generation=generation)
    state = {name: value for name, value in parent.rule_state.items() if name != "changed"}
    due = is_rebuilt(since_base, generation, settings.rebuild_every)
    changed = settings.rebuild_every > 0 and parent.rule_state.get("changed", False)
    if (due or changed) and not refused:
        anew = replace(progress, since_base=0)
        return TrainingStart(fresh_adapter(model, settings), anew, rule_state=state)
    return TrainingStart(
        parent.adapter, replace(progress, since_base=since_base), parent.optimiser, state
    )


def is_rebuilt(since_base: int, generation: int, most: int) -> bool:
    """Whether to begin anew: every so many updates, and sooner while they are few, whenever their number has
    doubled, since what the first votes taught is mostly wrong."""
    due = min(most, max(FIRST_REBUILD, generation // 2))
    return most > 0 and since_base % due == 0


def fresh_adapter(model: LoadedModel, settings: LearnerSettings) -> AdapterWeights:
    """A LoRA adapter that does not change the base yet."""
    spec = LoraSpec(settings.lora_rank, settings.lora_alpha, default_targets(model.outline))
    return init_adapter(model.outline, spec, settings.seed)
