"""A population of end users with hidden preferences, talking to a running service."""

from burnish.ops.simulate.main import main
from burnish.ops.simulate.options import BadOption, Options, SimulateError

__all__ = ["BadOption", "Options", "SimulateError", "main"]
