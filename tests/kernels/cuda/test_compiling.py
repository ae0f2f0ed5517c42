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

for capability in (80, 90):
    for bits, wide, rows in ((0, False, 64), (0, True, 16), (8, False, 64), (4, False, 16)):
        types = dict(x="*bf16", out="*bf16", bias="*bf16", scales="*fp32", factor_of="*fp32")
        types |= dict(order="*i32", group_of="*i32", first_of="*i32", last_of="*i32")
        types |= dict(address_of="*i64", rows_of="*i32")
        step = 32 if bits == 4 else 64
        constants = dict(BITS=bits, WIDE=wide, BIAS=not wide, ADD=wide, ROWS=rows, COLUMNS=64)
        build(grouped._grouped, capability, types, constants | dict(STEP=step))
    for kind, item, width, value in (("bf16", 2, 128, 128), ("fp32", 4, 256, 128)):
        if kind == "fp32" and capability != 80:
            continue  # takes the longest, and wants no more memory there
        types = {n: "*" + kind for n in ("query", "out", "keys", "values", "sinks")}
        types |= {n: "*i32" for n in ("table", "piece_of", "position_of", "tiles")}
        types |= dict(scale="fp32", softcap="fp32")
        constants = dict(SINKS=True, CAPPED=True, SHARE=3, GROUP=4, ROWS=64, WIDTH=width)
        keys = attention.keys_at_once(width, value, item)
        more = dict(VALUES=value, KEYS=keys, PAGE=attention.PAGE)
        build(attention._attend, capability, types, constants | more)
"""
SHARED = 99 * 1024  # bytes: the least that a block may have on the cards of capability 8 and 9


def test_kernels_compile_for_ampere_and_hopper(tmp_path) -> None:
    env = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env=env, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    built = [line.split() for line in done.stdout.splitlines()]
    assert len(built) == 11
    for name, capability, size, shared in built:
        assert int(size) > 0
        assert int(shared) <= SHARED, f"{name} for {capability} wants {shared} bytes"
