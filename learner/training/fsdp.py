"""The sharded trainer: base and adapter split over a group of ranks by FSDP2, one process per device.

Each rank holds 1/n of every layer and of the optimiser's state, gathers a layer while it computes, and
takes its share of each batch. The loss is divided by the tokens of the whole batch and gradients are
summed over ranks, so n ranks take the step that one process would. Ranks are started by torchrun, which
starts all of them again when one has died; they go on from the last sharded checkpoint.

Runs in PyTorch: the native CPU kernels want whole weights. Left out: sampling, and sharded reading of
the base; every rank reads the folder before it keeps its share.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from burnish.kernels.lora import AdapterWeights
from burnish.kernels.model import LoadedModel
from burnish.learner.training.batching import chunks
from burnish.learner.training.loss import LossWeights, policy_loss
from burnish.learner.training.protocol import NOTHING, StepReport
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.trainer import SLOT, TrainerConfig, new_optimiser
from torch import Tensor
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor

MOMENTS = ("exp_avg", "exp_avg_sq")


class ShardedTrainer:
    """A `Trainer` on all ranks of the default process group. `model` is loaded with `native=False`, on
    the CPU, and belongs to the trainer from then on."""

    def __init__(
        self,
        model: LoadedModel,
        adapter: AdapterWeights,
        config: TrainerConfig,
        device_type: str = "cpu",
    ) -> None:
        if model.native is not None:
            raise ValueError("sharded training runs in PyTorch: load the model with native=False")
        self.model, self.config = model, config
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        self._spec = adapter.spec
        self._steps = 0
        self._over_budget = False
        model.model.requires_grad_(False)
        self._places = model.set_parameters(SLOT, adapter)
        shard(model.model, init_device_mesh(device_type, (self.ranks,)))
        self._optimiser = new_optimiser(list(self._tensors().values()), config)

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
        self._steps += 1
        kl, entropy, ratio = (sums / total).tolist()
        self._over_budget = kl > self.config.kl_budget
        return StepReport(len(rollouts), total, kl, entropy, ratio, float(norm))

    def optimiser_state(self) -> dict[str, Tensor]:
        """AdamW's step count and moments, gathered on every rank, as `<key>.<parameter>`."""
        state = self._optimiser.state
        return {
            f"{key}.{name}": whole(torch.as_tensor(value)).clone()
            for name, tensor in self._tensors().items()
            for key, value in state[tensor].items()
        }

    def close(self) -> None:
        """The model stays sharded; it is of no use to others."""

    # -- checkpoints -----------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write a sharded checkpoint, each rank its share; `folder` holds the old one or the new one."""
        draft = folder.with_name(f".{folder.name}.draft")
        if self.rank == 0:
            shutil.rmtree(draft, ignore_errors=True)
        dist.barrier()
        save(self._state(), checkpoint_id=draft)
        if self.rank == 0:
            retired = folder.with_name(f".{folder.name}.retired")
            shutil.rmtree(retired, ignore_errors=True)
            if folder.exists():
                folder.rename(retired)
            draft.rename(folder)
            shutil.rmtree(retired, ignore_errors=True)
        dist.barrier()

    def load(self, folder: Path) -> int:
        """Take up a sharded checkpoint, by however many ranks it was written; returns the steps taken
        before it, 0 where there is none."""
        retired = folder.with_name(f".{folder.name}.retired")  # between the two renames of `save`
        found = next((path for path in (folder, retired) if path.exists()), None)
        if found is None:
            return 0
        state = self._state()
        load(state, checkpoint_id=found)
        self._steps = int(state["steps"])
        self._over_budget = bool(state["over_budget"])
        for name, tensor in self._tensors().items():
            moments = {key: state[f"{key}.{name}"] for key in MOMENTS}
            self._optimiser.state[tensor] = {"step": torch.tensor(float(self._steps)), **moments}
        return self._steps

    def _state(self) -> dict[str, Tensor]:
        """What a checkpoint holds: this rank's shares, which `load` fills in place."""
        tensors = self._tensors()
        state: dict[str, Tensor] = {f"adapter.{n}": t.detach() for n, t in tensors.items()}
        for name, tensor in tensors.items():
            held = self._optimiser.state.get(tensor, {})
            for key in MOMENTS:
                state[f"{key}.{name}"] = held.get(key, torch.zeros_like(tensor.detach()))
        state["steps"] = torch.tensor(self._steps)
        state["over_budget"] = torch.tensor(self._over_budget)
        return state

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


def join_ranks(backend: str = "gloo") -> None:
    """Join the process group of the ranks that torchrun started (it sets the environment)."""
    store, rank, ranks = next(rendezvous("env://"))
    # torchrun keeps its store over restarts, with the addresses of ranks that have died.
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"start-{start}", store)  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group(backend, store=store, rank=rank, world_size=ranks)


def shard(model: torch.nn.Module, mesh: DeviceMesh) -> None:
    """Shard a transformers model in place: each decoder layer a group, what is left the root's."""
    blocks = {name for name in getattr(model, "_no_split_modules", None) or ()}
    layers = [module for module in model.modules() if type(module).__name__ in blocks]
    if not layers:
        raise ValueError(f"{type(model).__name__} does not name its layers (_no_split_modules)")
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """A tensor's full value, on every rank."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
