"""The process that packs and times a model once per machine, and ends: see preparation.py.

python -m burnish.kernels.prepare_model PATH DTYPE WEIGHTS
"""

from __future__ import annotations

import sys

from burnish.kernels.loading import load_model
from burnish.kernels.timing import time_ways


def main(path: str, dtype: str, weights: str) -> None:
    load_model(path, dtype=dtype, device="cpu", weights=weights, timer=time_ways)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
