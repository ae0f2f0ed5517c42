"""The sharded trainer: base and adapter split over a group of ranks by FSDP2, one process per device.

Each rank holds 1/n of every layer and of the optimiser's state, gathers a layer while it computes, and
takes its share of each batch. The loss is divided by the tokens of the whole batch and gradients are
summed over ranks, so n ranks take the step that one process would.

Runs in PyTorch: the native CPU kernels want whole weights. Left out: who calls the ranks (ranks.py), and
sharded reading of the base; every rank reads the folder before it keeps its share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from burnish.kernels.lora import AdapterWeights
from burnish.kernels.model import LoadedModel
from burnish.learner.training.batching import chunks
from burnish.learner.training.loss import LossWeights, policy_loss
from burnish.learner.training.optimiser import new_optimiser, state_of, take_up, write_state
from burnish.learner.training.protocol import NOTHING, StepReport
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.trainer import SLOT, TrainerConfig
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


class ShardedTrainer:
    """A `Trainer` whose every call all ranks of the default process group make, with the same batch.

    `model` is loaded with `native=False`, on the CPU, and belongs to the trainer from then on.
    """

    def __init__(
        self,
        model: LoadedModel,
        adapter: AdapterWeights,
        config: TrainerConfig,
        optimiser_state: Mapping[str, Tensor] | None = None,
        device_type: str = "cpu",
    ) -> None:
        if model.native is not None:
            raise ValueError("sharded training runs in PyTorch: load the model with native=False")
        self.model, self.config = model, config
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        self._spec = adapter.spec
        model.model.requires_grad_(False)
        self._places = model.set_parameters(SLOT, adapter)
        shard(model.model, init_device_mesh(device_type, (self.ranks,)))
        tensors = self._tensors()
        self._optimiser = new_optimiser(list(tensors.values()), config.learning_rate)
        shares = _shares(optimiser_state or {}, tensors)
        self._over_budget = take_up(self._optimiser, tensors, shares)

    @property
    def adapter(self) -> AdapterWeights:
        """The present weights, gathered on every rank."""
        return AdapterWeights(self._spec, {name: whole(t) for name, t in self._tensors().items()})

    def step(self, rollouts: Sequence[Rollout]) -> StepReport:
        """One optimiser step on the whole batch, of which this rank computes its share."""
        rollouts = [rollout for rollout in rollouts if rollout.token_ids]
        total = sum(len(rollout.token_ids) for rollout in rollouts)
        if not total:
            return NOTHING
        sums = torch.zeros(3, device=self.model.device)
        weights = self.config.loss_weights(self._over_budget)
        self._optimiser.zero_grad(set_to_none=True)
        for chunk, counts in self._share(rollouts):
            used = weights if counts else LossWeights(0.0, 0.0, weights.ratio_cap)
            loss, of_chunk = policy_loss(self.model, chunk, SLOT, used)
            # FSDP takes the mean over ranks of what is to be a sum.
            (loss * self.ranks / total).backward()
            sums += of_chunk * counts
        dist.all_reduce(sums)
        tensors = list(self._tensors().values())
        norm = whole(torch.nn.utils.clip_grad_norm_(tensors, self.config.clip_norm))
        self._optimiser.step()
        kl, entropy, ratio = (sums / total).tolist()
        report = StepReport(len(rollouts), total, kl, entropy, ratio, float(norm))
        self._over_budget = report.kl_per_answer > self.config.kl_budget
        return report

    def save_optimiser(self, folder: Path) -> None:
        """Write this rank's share, to a folder that all ranks see."""
        state = state_of(self._optimiser, self._tensors(), self._over_budget)
        shares = {key: local(value) for key, value in state.items()}
        write_state(folder, shares, self.rank, self.ranks)
        dist.barrier()

    def close(self) -> None:
        """The model stays sharded; it is of no use to others."""

    # -- shares ----------------------------------------------------------------------------

    def held(self) -> dict[str, tuple[int, int]]:
        """Of every parameter of base and adapter, how many elements this rank holds, and of how many."""
        return {
            name: (local(tensor).numel(), tensor.numel())
            for name, tensor in self.model.model.named_parameters()
        }

    def _tensors(self) -> dict[str, Tensor]:
        """The adapter's parameters by peft's names; sharded outside of forward passes."""
        return {name: getattr(*place) for name, place in self._places.items()}

    def _share(self, rollouts: Sequence[Rollout]) -> list[tuple[list[Rollout], bool]]:
        """This rank's chunks, and whether each counts: layers are gathered by all ranks together, so a
        rank with fewer chunks than others computes one rollout again, for nothing."""
        ordered = sorted(rollouts, key=lambda rollout: len(rollout.sequence))
        shares = [list(chunks(ordered[rank :: self.ranks])) for rank in range(self.ranks)]
        own = [(chunk, True) for chunk in shares[self.rank]]
        return own + [(ordered[:1], False)] * (max(map(len, shares)) - len(own))


def shard(model: torch.nn.Module, mesh: DeviceMesh) -> None:
    """Shard a transformers model in place: each decoder layer a group, what is left the root's."""
    blocks = {name for name in getattr(model, "_no_split_modules", None) or ()}
    layers = [module for module in model.modules() if type(module).__name__ in blocks]
    if not layers:
        raise ValueError(f"{type(model).__name__} does not name its layers (_no_split_modules)")
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _shares(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole state's numbers, and of its tensors what this rank holds."""
    return {
        key: distribute_tensor(value, like.device_mesh, like.placements)
        if value.ndim and isinstance(like := tensors.get(key.partition(".")[2]), DTensor)
        else value
        for key, value in state.items()
    }


def whole(tensor: Tensor) -> Tensor:
    """A tensor's full value, on every rank."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
