"""Times a model's shape on the native library and on PyTorch, in less than three seconds.

A smaller model of the same shape stands for the whole: random weights, as many layers as make it larger
than a processor's caches, and a part of a large vocabulary. Layers and head are told apart by runs that
keep all tokens, and hardly any, and scaled to the whole. The two ways take turns, and the fewest
seconds of each count: what else the machine does hits both alike.

What is timed:

* steps: one answer of 64 tokens to a prompt of 256, the mean of what it costs where 1, 8 and 64 are
  written at a time: prefill + 64 / 3 * (t1 + t8 / 8 + t64 / 64);
* sequences: logits of four short sequences through the base;
* training: the same through a LoRA adapter of rank 16, forward and backward.

Left out: the time that importing transformers' model classes takes.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from burnish.kernels import attention, experts
from burnish.kernels.choice import NotTimed, Shape, Times, Work
from burnish.kernels.cpu.training import training_unsupported_reason
from burnish.kernels.folder import available_bytes, one_line
from burnish.kernels.forward_batch import ForwardBatch
from burnish.kernels.lora import LoraSpec, default_targets, init_adapter
from burnish.kernels.model import LoadedModel

BUDGET_S = 2.5  # after which no further run begins
TURNS = 4
LAYER_PARAMETERS = 10_000_000  # of all timed layers: with the head, more than most caches hold
HEAD_PARAMETERS = 8_000_000
READING = 4  # tokens that take about as long as reading the weights
PROMPT, ANSWER, ROWS, CONTEXT = 256, 64, (1, 8, 64), 128
SEQUENCES, LENGTH, START, RANK = 4, 32, 16, 16
NO_TOKENIZER = SimpleNamespace(eos_token_id=None)


@dataclass(frozen=True)
class Case:
    """A piece of work on a model, with or without its head, whose cost grows with its `tokens`."""

    tokens: int
    run: Callable[[LoadedModel, bool], None]
    head: bool = True  # that it is worth a run of its own


@dataclass(frozen=True)
class Miniature:
    """The smaller model on both ways, and how often its layers and its head go into the whole."""

    native: LoadedModel
    pytorch: LoadedModel
    layers: float
    head: float
    trains: bool


def time_ways(shape: Shape, clock: Callable[[], float] = time.perf_counter) -> dict[Work, Times]:
    """Times of each kind of work that both ways can do. NotTimed if memory is short, this processor so
    slow that nothing was timed, or transformers cannot build or run a smaller model."""
    try:
        return _time(shape, clock)
    except NotTimed:
        raise
    except (RuntimeError, ValueError, LookupError) as error:
        raise NotTimed(f"no smaller model of its shape runs: {one_line(error)}") from error


def _time(shape: Shape, clock: Callable[[], float]) -> dict[Work, Times]:
    end = clock() + BUDGET_S
    small = build(shape)
    vocab, read = small.native.config.vocab_size, SEQUENCES * LENGTH
    cases = {f"decode {rows}": Case(rows, _decode(rows, vocab)) for rows in ROWS}
    if small.trains:
        _set_adapter(small)
        cases["training"] = Case(3 * read, _sequences(vocab, 1))
    cases["sequences"] = Case(read, _sequences(vocab, 0))
    cases["prefill"] = Case(PROMPT, _prefill(vocab), head=False)
    return weigh(time_cases(cases, small, end, clock))


def time_cases(
    cases: Mapping[str, Case], small: Miniature, end: float, clock: Callable[[], float]
) -> dict[str, Times]:
    """Times of the whole model for each case. One that would not be done by `end`, judged by the one
    before it, is left out."""
    found: dict[str, Times] = {}
    run_s, tokens = 0.0, 1  # of the case before: seconds of both ways, tokens
    for left, (name, case) in zip(range(len(cases), 0, -1), cases.items(), strict=True):
        heads = (False, True) if case.head else (False,)
        now = clock()
        if now + run_s * len(heads) * (case.tokens + READING) / tokens > end:
            continue
        until = now + (end - now) / left
        runs = [(way, head) for way in (small.native, small.pytorch) for head in heads]
        fastest = [math.inf] * len(runs)
        for _ in range(TURNS):
            started = clock()
            for at, (way, head) in enumerate(runs):
                began = clock()
                case.run(way, head)
                fastest[at] = min(fastest[at], clock() - began)
            turn_s = clock() - started
            if clock() + turn_s > until:
                break
        run_s, tokens = turn_s / len(heads), case.tokens + READING
        halves = fastest[: len(heads)], fastest[len(heads) :]
        found[name] = Times(*(1000 * _whole(small, *seconds) for seconds in halves))
    return found


def _whole(small: Miniature, layers_s: float, both_s: float = 0.0) -> float:
    """Seconds of the whole model, from those of the smaller one's layers, and of these and its head."""
    return layers_s * small.layers + max(0.0, both_s - layers_s) * small.head


def weigh(cases: Mapping[str, Times]) -> dict[Work, Times]:
    """Times of each kind of work, from those of its cases that were timed. NotTimed if none was."""
    decodes = {rows: cases[f"decode {rows}"] for rows in ROWS if f"decode {rows}" in cases}
    if not decodes:
        raise NotTimed("this processor is too slow for it, or too busy now")

    def answer(way: str) -> float:
        token_ms = sum(getattr(times, way) / rows for rows, times in decodes.items()) / len(decodes)
        prompt_ms = getattr(cases["prefill"], way) if "prefill" in cases else 0.0
        return float(prompt_ms + ANSWER * token_ms)

    found: dict[Work, Times] = {"steps": Times(answer("native_ms"), answer("pytorch_ms"))}
    for work in ("sequences", "training"):
        if work in cases:
            found[work] = cases[work]
    return found


# -- the smaller model ----------------------------------------------------------------------------


def build(shape: Shape) -> Miniature:
    """A model of the shape with fewer layers and tokens. NotTimed if there is no memory for it."""
    depth, vocab = shape.config.num_hidden_layers, shape.config.vocab_size
    with torch.device("meta"):
        one = _model(reduce(shape.config, 1, vocab), shape.dtype)
    tables = (one.get_input_embeddings().weight, one.get_output_embeddings().weight)
    outside = sum(table.numel() for table in {id(t): t for t in tables}.values())
    layer = sum(p.numel() for p in one.parameters()) - outside
    layers = min(depth, max(1, LAYER_PARAMETERS // layer))
    tokens = min(vocab, max(1024, HEAD_PARAMETERS // shape.config.hidden_size))
    _refuse_beyond_memory(shape, layers * layer, tokens * shape.config.hidden_size)
    model = _model(reduce(shape.config, layers, tokens), shape.dtype)
    _fill(model)
    native, pytorch = (LoadedModel(model, NO_TOKENIZER, Path(), "") for _ in range(2))
    if reason := native.use_native(shape.weights):  # type: ignore[arg-type]
        raise NotTimed(reason)
    assert native.native is not None
    trains = training_unsupported_reason(native.native) is None
    return Miniature(native, pytorch, depth / layers, vocab / tokens, trains)


def reduce(config: Any, layers: int, vocab: int) -> Any:
    """A copy of a config with the last `layers` of its layers, the kind that most are, and the first
    `vocab` of its tokens."""
    small, depth = copy.deepcopy(config), config.num_hidden_layers
    for name, value in config.to_dict().items():
        if isinstance(value, (list, tuple)) and len(value) == depth:
            setattr(small, name, value[depth - layers :])
        if name.endswith("token_id"):
            setattr(small, name, None)
    if layers < depth:
        for name, nothing in (("first_k_dense_replace", 0), ("mlp_only_layers", [])):
            if hasattr(small, name):
                setattr(small, name, nothing)
    small.num_hidden_layers, small.vocab_size = layers, vocab
    small.max_position_embeddings = max(PROMPT, small.max_position_embeddings)
    return small


def _model(config: Any, dtype: torch.dtype) -> Any:
    """The transformers model on our attention and experts, its weights left as memory was."""
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    attention.register()
    experts.register()
    own = {"experts_implementation": experts.NAME} if experts.has_experts(config) else {}
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=attention.NAME, **own
        )
    model.tie_weights()
    return model.eval().requires_grad_(False)


def _fill(model: Any) -> None:
    """Random weights, the same ones over and over: drawing them all would take longer than timing."""
    drawn = torch.randn((1 << 20) - 3, generator=torch.Generator().manual_seed(0)) * 0.02
    for parameter in model.parameters():
        flat = parameter.data.view(-1)
        if parameter.ndim == 1:
            flat.fill_(1.0)
            continue
        for part in flat.split(len(drawn)):
            part.copy_(drawn[: len(part)])


def _refuse_beyond_memory(shape: Shape, layers: int, head: int) -> None:
    """NotTimed if the smaller model, packed and transposed, leaves less than as much again free."""
    packed = 4 if shape.weights == "float32" else 2
    wanted = 2 * (layers + 2 * head) * (shape.dtype.itemsize + 2 * packed)
    free = available_bytes()
    if free is not None and wanted > free:
        raise NotTimed(
            f"timing takes about {wanted / 2**20:.0f} MiB of memory and {free / 2**20:.0f} are free"
        )


# -- the work -------------------------------------------------------------------------------------


def _decode(rows: int, vocab: int) -> Callable[[LoadedModel, bool], None]:
    """A step in which each row decodes one token after CONTEXT others."""
    reach = CONTEXT + 16
    table = np.arange(rows * reach).reshape(rows, reach)
    row = np.arange(rows)
    ones = np.ones_like(row)
    return _step(row % vocab, row, ones * CONTEXT, ones, table)


def _prefill(vocab: int) -> Callable[[LoadedModel, bool], None]:
    """A step over the PROMPT tokens of one row."""
    zero, tokens = np.zeros(1, np.int64), np.arange(PROMPT) % vocab
    return _step(tokens, zero, zero, zero + PROMPT, np.arange(PROMPT)[None])


def _step(
    tokens: np.ndarray, rows: np.ndarray, starts: np.ndarray, counts: np.ndarray, table: np.ndarray
) -> Callable[[LoadedModel, bool], None]:
    last, none = counts.cumsum() - 1, np.empty(0, np.int64)
    pages: dict[int, Any] = {}

    def run(model: LoadedModel, head: bool) -> None:
        keep = last if head else none
        if id(model) not in pages:
            pages[id(model)] = model.new_pages(table.size)
        batch = ForwardBatch(tokens, rows, starts, counts, np.zeros_like(rows), keep)
        model.step(batch, table, pages[id(model)])

    return run


def _set_adapter(small: Miniature) -> None:
    """A fresh adapter that is being trained, in slot 1 of both ways."""
    model = small.pytorch.model
    spec = LoraSpec(RANK, 2.0 * RANK, default_targets(model))
    live = init_adapter(model, spec, seed=0).trainable()
    for way in (
        small.pytorch,
        small.native,
    ):  # the layers heed the slots of the one that comes first
        way.set_adapter(1, live)
    assert small.native.training is not None  # packs now, not while it is timed


def _sequences(vocab: int, slot: int) -> Callable[[LoadedModel, bool], None]:
    """Read a few sequences, and with an adapter in `slot` train on them."""
    sequences = (np.arange(SEQUENCES * LENGTH) % vocab).reshape(SEQUENCES, LENGTH).tolist()

    def run(model: LoadedModel, head: bool) -> None:
        starts = [START if head else LENGTH - 1] * SEQUENCES
        with torch.set_grad_enabled(slot > 0):
            logits = model.read(sequences, starts, slot)
            if slot:
                logits.sum().backward()

    return run
