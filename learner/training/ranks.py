"""A group of ranks as one trainer: the first rank decides and calls, the others make the same calls.

The first rank runs the whole update and holds a model of its own besides, to sample from; what it asks of
its `RankedTrainer` it tells the others first, who wait in `follow`. Ranks are started by torchrun, which
starts all of them again when one has died; the update then goes on from its last checkpoint.

Calls go by pickle, between processes of one group; nothing of it is kept.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, LoraSpec
from burnish.learner.training.fsdp import ShardedTrainer
from burnish.learner.training.protocol import StepReport
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.trainer import TrainerConfig
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

# Ranks wait for one another while the first one samples and puts a candidate through the gate.
PATIENCE = timedelta(days=1)


class RankedTrainer:
    """All ranks' `ShardedTrainer` on the model at `path`, as one `Trainer` for the first rank."""

    def __init__(
        self,
        path: Path,
        adapter: AdapterWeights,
        config: TrainerConfig,
        optimiser_state: Mapping[str, Tensor] | None = None,
    ) -> None:
        start = (path, adapter.spec, dict(adapter.detached().tensors), config, optimiser_state)
        _tell(_open.__name__, start)
        self._own = _open(*start)

    @property
    def adapter(self) -> AdapterWeights:
        _tell("adapter")
        return self._own.adapter

    def step(self, rollouts: Sequence[Rollout]) -> StepReport:
        _tell("step", (list(rollouts),))
        return self._own.step(rollouts)

    def save_optimiser(self, folder: Path) -> None:
        """Each rank its share: the folder lies where all ranks see it."""
        _tell("save_optimiser", (folder,))
        self._own.save_optimiser(folder)

    def close(self) -> None:
        self._own.close()


def follow() -> None:
    """Make the calls of the first rank, as they come, until it leaves."""
    trainer: ShardedTrainer | None = None
    while (call := _heard()) is not None:
        name, args = call
        if name == _open.__name__:
            trainer = _open(*args)
        elif name == "adapter":
            _ = trainer and trainer.adapter  # gathered by all ranks together
        else:
            getattr(trainer, name)(*args)


def started_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined() -> Iterator[int]:
    """In the process group of the ranks that torchrun started; yields this rank. The first one lets the
    others go at the end; an error of its own ends them, too."""
    store, rank, ranks = next(rendezvous("env://"))
    # torchrun keeps its store over restarts, with the addresses of ranks that have died.
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"start-{start}", store)  # pyright: ignore[reportPrivateImportUsage]
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(_backend(), store=store, rank=rank, world_size=ranks, timeout=PATIENCE)
    yield rank
    if rank == 0:
        _tell(None)
    dist.barrier()
    dist.destroy_process_group()


def leave() -> NoReturn:
    """End a process that only followed. Its group's threads may still run, and Python's own way out now and then
    aborts over them, which torchrun takes for a rank that failed."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def in_group() -> bool:
    """Whether this process is a rank of a group."""
    return dist.is_available() and dist.is_initialized()


def _open(
    path: Path,
    spec: LoraSpec,
    tensors: Mapping[str, Tensor],
    config: TrainerConfig,
    optimiser_state: Mapping[str, Tensor] | None,
) -> ShardedTrainer:
    model = load_model(path, device="cpu", native=False)
    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    adapter = AdapterWeights(spec, dict(tensors))
    return ShardedTrainer(model, adapter, config, optimiser_state, device_type)


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def _tell(name: str | None, args: tuple[Any, ...] = ()) -> None:
    """Tell the other ranks what the first one is about to call; None: that it leaves."""
    dist.broadcast_object_list([None if name is None else (name, args)], src=0, device=CPU)


def _heard() -> tuple[str, tuple[Any, ...]] | None:
    call: list[Any] = [None]
    dist.broadcast_object_list(call, src=0, device=CPU)
    return call[0]


CPU = torch.device("cpu")
