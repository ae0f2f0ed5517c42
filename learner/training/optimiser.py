"""AdamW as every trainer runs it, and its state in the folder of a checkpoint.

The state is one file, or one for each rank that holds a share of it (its rows of the first dimension).
Reading joins them, so training goes on from any number of ranks with any other. Safetensors, since
nothing in a checkpoint is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

WHOLE = "optimiser.safetensors"
SHARE = "optimiser-{rank}-of-{ranks}.safetensors"
BETAS = (0.9, 0.99)
ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")
OVER_BUDGET = "over_budget"  # whether the last step's KL was: the next one only returns from there


def new_optimiser(tensors: Sequence[Tensor], learning_rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(tensors, lr=learning_rate, betas=BETAS, weight_decay=0.0)


def state_of(
    optimiser: torch.optim.AdamW, tensors: Mapping[str, Tensor], over_budget: bool
) -> dict[str, Tensor]:
    """Step count and moments as `<key>.<parameter>`, and whether the KL budget was exceeded."""
    state = {
        f"{key}.{name}": torch.as_tensor(value)
        for name, tensor in tensors.items()
        for key, value in optimiser.state[tensor].items()
    }
    return {**state, OVER_BUDGET: torch.tensor(float(over_budget))}


def take_up(
    optimiser: torch.optim.AdamW, tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> bool:
    """Give the optimiser a saved state, as far as it fits; whether the KL budget was exceeded.

    `state` has the shape of `tensors`: on a rank its share of each.
    """
    for name, tensor in tensors.items():
        saved = {key: state.get(f"{key}.{name}") for key in ADAM_STATE}
        known = {key: value.clone() for key, value in saved.items() if value is not None}
        if len(known) == len(ADAM_STATE) and known["exp_avg"].shape == tensor.shape:
            optimiser.state[tensor] = known
    return bool(state.get(OVER_BUDGET, 0.0))


def write_state(folder: Path, state: Mapping[str, Tensor], rank: int = 0, ranks: int = 1) -> None:
    """Write a rank's share; of a single rank, all of it."""
    name = WHOLE if ranks == 1 else SHARE.format(rank=rank + 1, ranks=ranks)
    save_file({key: value.detach().contiguous() for key, value in state.items()}, folder / name)


def read_state(folder: Path) -> dict[str, Tensor]:
    """The state, whole. Raises OSError where a share is missing."""
    if (folder / WHOLE).exists():
        return load_file(folder / WHOLE)
    found = next(folder.glob(SHARE.format(rank=1, ranks="*")), None)
    if found is None:
        raise FileNotFoundError(f"no {WHOLE}")
    ranks = int(found.stem.rsplit("-", 1)[1])
    names = [SHARE.format(rank=rank + 1, ranks=ranks) for rank in range(ranks)]
    shares = [load_file(folder / name) for name in names]
    return {key: _joined([share[key] for share in shares]) for key in shares[0]}


def _joined(shares: Sequence[Tensor]) -> Tensor:
    """Numbers are the same on every rank; of tensors each has its rows."""
    return torch.cat(list(shares)) if shares[0].ndim else shares[0]
