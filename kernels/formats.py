"""The formats in which the kernels keep weights and the KV cache; imported where torch must not be."""

from __future__ import annotations

from typing import Literal

Weights = Literal["auto", "float32", "bfloat16", "int8", "int4"]
"""`auto`: the smallest that loses nothing. int8 has a scale for each output, int4 one for each 32
inputs of an output."""

CacheFormat = Literal["float32", "bfloat16", "int8"]
"""int8 has a scale for each key, or value, of a head at a position."""
Cache = Literal["auto", "int8"]
"""`auto`: the model's own format."""
