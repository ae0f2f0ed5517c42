"""The native library's C structs, field by field as in cpu/native/model.h, weights.h and lora.h.

Left out: what fills them (packing.py, step.py, training.py).
"""

from __future__ import annotations

import ctypes

POINTER, SIZE, FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class CMatrix(ctypes.Structure):
    _fields_ = [
        *((name, POINTER) for name in ("weight", "scale", "bias", "part")),
        *((name, SIZE) for name in ("format", "inputs", "blocks")),
    ]


class CLora(ctypes.Structure):
    _fields_ = [("down", CMatrix), ("up", CMatrix), ("scale", FLOAT)]


class CLayer(ctypes.Structure):
    _fields_ = [
        *((name, POINTER) for name in ("norm1", "norm2", "q_norm", "k_norm")),
        *((name, CMatrix) for name in ("qkv", "out", "router", "gate_up", "down")),
        *((name, CMatrix) for name in ("query", "key", "value")),
        ("experts", SIZE),
        ("window", SIZE),
        ("sinks", POINTER),
        ("correction_bias", POINTER),
    ]


class CModel(ctypes.Structure):
    _fields_ = [
        ("layers", POINTER),
        *((name, SIZE) for name in ("depth", "hidden", "heads", "kv_heads", "width")),
        *((name, SIZE) for name in ("rotary", "top_k", "vocab")),
        *((name, SIZE) for name in ("norm_per_head", "norm_topk", "sigmoid_scores")),
        *((name, SIZE) for name in ("expert_groups", "groups_kept", "shared_experts")),
        *((name, SIZE) for name in ("latent",)),
        *((name, FLOAT) for name in ("latent_eps", "eps", "scale", "clip_qkv")),
        *((name, FLOAT) for name in ("routed_scaling", "swiglu_alpha", "swiglu_limit")),
        *((name, POINTER) for name in ("embedding_bf16", "embedding", "final_norm")),
        ("head", CMatrix),
        ("cosines", POINTER),
        ("sines", POINTER),
        ("positions", SIZE),
    ]


class CStep(ctypes.Structure):
    _fields_ = [
        ("tokens", SIZE),
        *((name, POINTER) for name in ("token", "row", "position", "slot", "adapters")),
        ("resident", SIZE),
        ("table", POINTER),
        ("rows", SIZE),
        ("reach", SIZE),
        ("keys", POINTER),
        ("values", POINTER),
        *((name, SIZE) for name in ("pages", "cache_format", "kept")),
        *((name, POINTER) for name in ("keep", "logits", "state")),
        ("layers", SIZE),
        ("states", POINTER),
        ("threads", SIZE),
        ("inputs", POINTER),
        ("hidden", POINTER),
        ("activations", POINTER),
    ]


class CSamplingMetadata(ctypes.Structure):
    _fields_ = [
        *((name, POINTER) for name in ("params", "skip", "num_generated", "max_new_tokens")),
        *((name, POINTER) for name in ("is_eos", "ignore_eos")),
        ("steps", SIZE),
        *((name, POINTER) for name in ("tokens", "raw_logprobs", "processed_logprobs", "counts")),
    ]


class CLoraGradient(ctypes.Structure):
    _fields_ = [("down", POINTER), ("up", POINTER)]


class CBackward(ctypes.Structure):
    _fields_ = [
        ("transposed", POINTER),
        ("head", CMatrix),
        ("sequences", SIZE),
        *((name, POINTER) for name in ("starts", "logits", "gradients")),
    ]
