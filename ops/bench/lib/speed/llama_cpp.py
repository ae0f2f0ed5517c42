"""llama.cpp as an engine to compare with, through llama-cpp-python.

It is fed fixed tokens, so that it is timed without sampling. Its library is built for the machine when
pip installs it; `built_for` tells what for.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from burnish.ops.bench.lib.speed.gguf_file import write_gguf
from burnish.ops.bench.lib.speed.peers import Peer, Timing

BATCH = 512  # tokens of one call


def installed() -> bool:
    """Whether llama-cpp-python and gguf are (`pip install burnish[bench]`)."""
    return all(map(importlib.util.find_spec, ("llama_cpp", "gguf")))


def built_for() -> dict[str, str]:
    """Its version, and the instructions that its library says it uses."""
    ll: Any = importlib.import_module("llama_cpp")
    return {"version": ll.__version__, "system": ll.llama_print_system_info().decode().strip()}


def llama_cpp(weights: str) -> Callable[[Path, int], Any]:
    """llama.cpp on a GGUF of the same weights, in one of gguf_file.FORMATS."""

    @contextmanager
    def peer(folder: Path, threads: int) -> Iterator[Peer]:
        with _model(folder, weights) as (ll, model):

            def run(prompts: np.ndarray, new: int) -> Timing:
                rows, length = prompts.shape
                with _context(ll, model, rows, length + new, threads) as (context, batch):
                    began = time.perf_counter()
                    _read(ll, context, batch, prompts)
                    first = time.perf_counter() - began
                    for n in range(new - 1):
                        asked = [(5 + n, length + n, r, True) for r in range(rows)]
                        _decode(ll, context, batch, asked)
                    seconds = time.perf_counter() - began
                    return Timing(seconds, first, seconds - first, rows * (new - 1))

            yield run

    return peer


def last_logits(folder: Path, weights: str, tokens: np.ndarray) -> np.ndarray:
    """Logits [V] after a prompt [length]."""
    with (
        _model(folder, weights) as (ll, model),
        _context(ll, model, 1, len(tokens), 1) as (context, batch),
    ):
        _read(ll, context, batch, tokens[None])
        vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
        return np.ctypeslib.as_array(ll.llama_get_logits_ith(context, -1), (vocab,)).copy()


@contextmanager
def _model(folder: Path, weights: str) -> Iterator[tuple[Any, Any]]:
    """The bindings, and the loaded model."""
    ll: Any = importlib.import_module("llama_cpp")
    file = write_gguf(folder, weights)
    ll.llama_backend_init()
    callback = _silent_log(ll)  # referenced until the end: the library keeps calling it
    ll.llama_log_set(callback, None)
    model = ll.llama_model_load_from_file(str(file).encode(), ll.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp does not load {file}")
    try:
        yield ll, model
    finally:
        ll.llama_model_free(model)
        ll.llama_log_set(ll.llama_log_callback(0), None)
        del callback


@contextmanager
def _context(
    ll: Any, model: Any, rows: int, length: int, threads: int
) -> Iterator[tuple[Any, Any]]:
    """A cache for `rows` sequences, and a batch to fill."""
    options = ll.llama_context_default_params()
    options.n_ctx = rows * (length + 16)
    options.n_batch = options.n_ubatch = BATCH
    options.n_seq_max = rows
    options.n_threads = options.n_threads_batch = threads
    options.kv_unified = False  # a cache for each sequence: at 32 it is faster than one for all
    context = ll.llama_init_from_model(model, options)
    batch = ll.llama_batch_init(BATCH, 0, 1)
    try:
        yield context, batch
    finally:
        ll.llama_batch_free(batch)
        ll.llama_free(context)


def _read(ll: Any, context: Any, batch: Any, prompts: np.ndarray) -> None:
    """All prompts [rows, length], with logits after each."""
    rows, length = prompts.shape
    entries = [(prompts[r, i], i, r, i == length - 1) for r in range(rows) for i in range(length)]
    for at in range(0, len(entries), BATCH):
        _decode(ll, context, batch, entries[at : at + BATCH])


def _decode(ll: Any, context: Any, batch: Any, entries: list[tuple[int, int, int, bool]]) -> None:
    """One llama_decode of (token, position, sequence, whether to compute its logits)."""
    batch.n_tokens = len(entries)
    for i, (token, position, sequence, wanted) in enumerate(entries):
        batch.token[i] = int(token)
        batch.pos[i] = position
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = sequence
        batch.logits[i] = wanted
    if ll.llama_decode(context, batch):
        raise RuntimeError("llama_decode failed")


def _silent_log(ll: Any) -> Any:
    @ll.llama_log_callback
    def log(level: int, text: bytes, data: Any) -> None:
        pass

    return log
