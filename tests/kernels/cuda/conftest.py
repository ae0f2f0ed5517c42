"""The CUDA kernels on a GPU where there is one, else in Triton's interpreter (see tests/conftest.py)."""

import importlib.util

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    collect_ignore_glob = ["test_*.py"]  # there is no wheel for this machine


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
