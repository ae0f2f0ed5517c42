"""The formats in which the kernels keep weights; imported where torch must not be."""

from __future__ import annotations

from typing import Literal

Weights = Literal["auto", "float32", "bfloat16", "int8", "int4"]
"""`auto`: the smallest that loses nothing. int8 has a scale for each output, int4 one for each 32
inputs of an output."""
