"""Every kernel compiles to machine code for the GPUs it is meant for, without one being there.

The interpreter proves what the kernels compute; this proves that the compiler takes them, and that
a tile fits into the shared memory a block may have.
"""

import os
import subprocess
import sys

# In a process of its own: here Triton interprets.
CODE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from burnish.kernels.cuda import attention, grouped

# What is a multiple of 16 in real models.
EVEN = "x out order scales bias query keys values table x_stride out_stride widest depth per_scale"
EVEN = (EVEN + " width value_width reach").split()

def build(kernel, capability, types, constants):
    names = kernel.arg_names
    signature = {n: types.get(n, "i32") for n in names} | {n: "constexpr" for n in constants}
    even = {(at,): [["tt.divisibility", 16]] for at, n in enumerate(names) if n in EVEN}
    values = {(names.index(n),): value for n, value in constants.items()}
    source = ASTSource(kernel, signature, values, even)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    print(kernel.__name__, capability, len(made.asm["cubin"]), made.metadata.shared)

FORMS = ((0, False, 64), (0, True, 16), (8, False, 64), (4, False, 16))  # bits, wide, rows
# Everything for Hopper, for Ampere what is plainest and what wants most memory.
for capability, forms, kind in ((90, FORMS, "bf16"), (80, FORMS[:1], "fp32")):
    for bits, wide, rows in forms:
        types = dict(x="*bf16", out="*bf16", bias="*bf16", scales="*fp32", factor_of="*fp32")
        types |= dict(order="*i32", group_of="*i32", first_of="*i32", last_of="*i32")
        types |= dict(address_of="*i64", rows_of="*i32")
        constants = dict(BITS=bits, WIDE=wide, BIAS=not wide, ADD=wide, ROWS=rows, COLUMNS=64)
        constants |= dict(STEP=32 if bits == 4 else 64)
        ones = {} if wide else dict(stacks=1, share=1)  # Triton makes constants of these
        build(grouped._grouped, capability, types, constants | ones)
    types = {n: "*" + kind for n in ("query", "out", "keys", "values", "sinks")}
    types |= {n: "*i32" for n in ("table", "piece_of", "position_of", "tiles")}
    types |= dict(states="*fp32", scale="fp32", softcap="fp32")
    width, value = (128, 128) if kind == "bf16" else (256, 128)
    keys = attention.keys_at_once(width, value, 2 if kind == "bf16" else 4)
    shape = dict(SHARE=3, GROUP=4, WIDTH=width, VALUES=value, KEYS=keys, PAGE=attention.PAGE)
    prompts = dict(SINKS=True, CAPPED=True, ROWS=64, SPLITS=1)
    build(attention._attend, capability, types, shape | prompts)
decode = dict(SINKS=True, CAPPED=False, ROWS=16, SPLITS=8, kv_heads=1, window=0)
build(attention._attend, capability, types, shape | decode)
"""
SHARED = 99 * 1024  # bytes: the least that a block may have on the cards of capability 8 and 9


def test_kernels_compile_for_ampere_and_hopper(tmp_path) -> None:
    env = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env=env, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    built = [line.split() for line in done.stdout.splitlines()]
    assert len(built) == 8
    for name, capability, size, shared in built:
        assert int(size) > 0
        assert int(shared) <= SHARED, f"{name} for {capability} wants {shared} bytes"
