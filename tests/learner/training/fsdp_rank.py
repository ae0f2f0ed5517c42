"""One rank of a sharded training, started by torchrun: MODEL FOLDER STEPS [DIES_AT].

Every step is checkpointed. With DIES_AT the last rank kills itself after that many steps, once; torchrun
then starts all ranks again.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from burnish.kernels.loading import load_model
from burnish.kernels.lora import LoraSpec, init_adapter, save_adapter
from burnish.learner.training.fsdp import ShardedTrainer, join_ranks
from safetensors.torch import save_file

from tests.learner.training.sharded_case import CONFIG, SPEC, batch_of


def main(path: str, folder: Path, steps: int, dies_at: int | None) -> None:
    torch.set_num_threads(1)
    join_ranks()
    model = load_model(path, device="cpu", native=False)
    trainer = ShardedTrainer(model, init_adapter(model.model, LoraSpec(*SPEC), seed=0), CONFIG)
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    began = trainer.load(folder / "checkpoint")
    reports = []
    for step in range(began, steps):
        reports.append(vars(trainer.step(batch_of(step))))
        trainer.save(folder / "checkpoint")
        first_start = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if step + 1 == dies_at and first_start and rank == last:
            os.kill(os.getpid(), signal.SIGKILL)
    told = {"began": began, "reports": reports, "held": trainer.held()}
    (folder / f"rank{rank}.json").write_text(json.dumps(told))
    adapter, optimiser = trainer.adapter, trainer.optimiser_state()
    if rank == 0:
        save_adapter(adapter, folder / "adapter", "tiny")
        save_file(optimiser, folder / "optimiser.safetensors")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(
        sys.argv[1],
        Path(sys.argv[2]),
        int(sys.argv[3]),
        int(sys.argv[4]) if len(sys.argv) > 4 else None,
    )
