"""One rank of a group that trains together, started by torchrun: MODEL FOLDER STEPS DIES_AT.

The first rank trains as an update does, with a checkpoint after every step, and the others follow. At
the step after DIES_AT the last rank kills itself, once; torchrun then starts all ranks again. What each
rank holds, and what the first one saw, is left in FOLDER.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from burnish.kernels.loading import load_model
from burnish.kernels.lora import LoraSpec, init_adapter
from burnish.learner.training import checkpoint, ranks
from burnish.learner.training.checkpoint import TrainingProgress
from burnish.learner.training.fsdp import ShardedTrainer

from tests.learner.training.sharded_case import CONFIG, SPEC, batch_of

PROGRESS = TrainingProgress("u", "default", 1, "", 0, 0, 0.0, False, "", 0)


def train(path: Path, folder: Path, steps: int) -> None:
    """As the first rank."""
    saved = checkpoint.load(folder / "checkpoint")
    if saved is None:
        model = load_model(path, device="cpu", native=False)
        began, adapter, state = 0, init_adapter(model.model, LoraSpec(*SPEC), seed=0), None
    else:
        began, adapter, state = saved.progress.step, saved.adapter, saved.optimiser
    trainer = ranks.RankedTrainer(path, adapter, CONFIG, state)
    reports = []
    for step in range(began, steps):
        reports.append(vars(trainer.step(batch_of(step))))
        progress = replace(PROGRESS, step=step + 1)
        args = (trainer.adapter, trainer.save_optimiser, {}, "tiny")
        checkpoint.save(folder / "checkpoint", progress, *args)
    trainer.close()
    (folder / "told.json").write_text(json.dumps({"began": began, "reports": reports}))


class Watched(ShardedTrainer):
    """Notes what it holds; may kill its process."""

    folder: Path
    dies_at: int | None = None
    taken = 0

    def step(self, rollouts):
        if self.taken == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.taken += 1
        held = json.dumps(self.held())
        (self.folder / f"held{self.rank}.json").write_text(held)
        return super().step(rollouts)


def main(path: Path, folder: Path, steps: int, dies_at: int) -> None:
    torch.set_num_threads(1)
    Watched.folder = folder
    ranks.ShardedTrainer = Watched
    with ranks.joined() as rank:
        last = rank == dist.get_world_size() - 1
        if last and dies_at and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            Watched.dies_at = dies_at
        if rank:
            ranks.follow()
        else:
            train(path, folder, steps)
    if rank:
        ranks.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
