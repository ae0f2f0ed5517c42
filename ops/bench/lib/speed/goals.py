"""What the engine benchmark must show, with its goals for AVX2 and AVX-512, from its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from burnish.ops.bench.lib.results import MustShow
from burnish.ops.bench.lib.speed.loads import (
    CANDIDATE,
    CONCURRENT,
    HELD_PEERS,
    LLAMA_CPP,
    LONG,
    PEERS,
    SHORT,
)

SHAPES = ("S", "M", "D", "L")
# Times llama.cpp's tokens a second at 1, 8 and 32, and what else differs by the width of vectors.
AVX2: dict[str, tuple[float, ...]] = {
    "S": (1.3, 3, 5),
    "M": (1, 2, 4),
    "D": (1,),
    "L": (1,),
    "quantised": (1, 1.5, 3),
    "prefill": (1.3,),
}
AVX512: dict[str, tuple[float, ...]] = {
    "S": (2, 5, 10),
    "M": (1.2, 2.5, 4.5),
    "D": (1,),
    "L": (1,),
    "quantised": (1.2, 3, 5),
    "prefill": (1.5,),
}
BANDWIDTH_SHARE = 0.8
LONG_PROMPT = 1.6  # times the time per token of a short one
TRAINING = {"ember": 1.5, "D": 1.2}
FRESH_ANSWERS, MIXED_LOSS = 8, 0.15
NOT_SLOWER = 0.95
STREAM, READS_GB_S, RESIDENT_MB = 40, 15, 700


def lines(results: dict[str, Any]) -> list[MustShow]:
    """For each instruction set that was measured, and for the model that was served."""
    targets = {t for cells in results["shapes"].values() for t in cells} - {PEERS, HELD_PEERS}
    found = []
    for judged in (_Target(results, target) for target in sorted(targets)):
        found += [*judged.decode(), *judged.prompts(), *judged.learner(), *judged.adapters()]
        found += [*judged.steps()]
    return [*found, *_of_stream(results)]


class _Target:
    """The lines of one instruction set."""

    def __init__(self, results: dict[str, Any], target: str) -> None:
        self._results, self._target = results, target
        self._goals = AVX512 if target in ("amx", "avx512") else AVX2

    def decode(self) -> Iterator[MustShow]:
        for shape in SHAPES:
            for rows, goal in zip(CONCURRENT, self._goals[shape], strict=False):
                value = self._times_llama_cpp(shape, "bfloat16", str(rows), "decode")
                what = f"{shape}, decode at {rows}, times llama.cpp bf16"
                what += self._of_the_peak(shape, rows)
                yield self._at_least(what, value, goal)
        for shape in ("D", "L"):
            keys = ("shares", shape, self._target, "burnish bfloat16", "bandwidth")
            what = f"{shape}, decode at 1, share of read bandwidth"
            yield self._at_least(what, _get(self._results, *keys), BANDWIDTH_SHARE)
        for form in ("int8", "int4"):
            for rows, goal in zip(CONCURRENT, self._goals["quantised"], strict=True):
                what = f"{form}, decode at {rows}, times llama.cpp {LLAMA_CPP[form]}"
                each = {s: self._times_llama_cpp(s, form, str(rows), "decode") for s in SHAPES}
                yield self._at_least(*_worst(what, each, min), goal)

    def _of_the_peak(self, shape: str, rows: int) -> str:
        """What the most rows reach of the peak of float32 multiply-adds (roofline.py)."""
        keys = ("shares", shape, self._target, "burnish bfloat16", "flops_of_decode")
        share = _get(self._results, *keys)
        return f" (at {share:.0%} of the float32 peak)" if share and rows == CONCURRENT[-1] else ""

    def prompts(self) -> Iterator[MustShow]:
        each = {s: self._times_llama_cpp(s, "bfloat16", "prompts", str(SHORT)) for s in SHAPES}
        what = f"prefill of {SHORT} tokens, times llama.cpp bf16"
        yield self._at_least(*_worst(what, each, min), self._goals["prefill"][0])
        each = {
            s: _ratio(*(self._ours(s, "bfloat16", "prompts", str(n)) for n in (SHORT, LONG)))
            for s in SHAPES
        }
        what = f"prefill of {LONG} tokens, time per token against {SHORT}"
        yield self._at_most(*_worst(what, each, max), LONG_PROMPT)

    def learner(self) -> Iterator[MustShow]:
        for shape, goal in TRAINING.items():
            value = _get(self._results["shapes"], shape, self._target, "training", "times_pytorch")
            yield self._at_least(f"{shape}, training step, times PyTorch's", value, goal)
        generate = [
            self._peer("S", f"transformers generate, {name}", "fresh")
            for name in ("no adapter", CANDIDATE)
        ]
        fastest = max((speed for speed in generate if speed is not None), default=None)
        value = _ratio(self._ours("S", f"bfloat16, {CANDIDATE}", "fresh"), fastest)
        yield self._at_least("S, fresh answers, times transformers generate", value, FRESH_ANSWERS)

    def adapters(self) -> Iterator[MustShow]:
        each = {
            f"{s} at {n}": _loss(
                self._ours(s, "bfloat16, 2 adapters", str(n), "decode"),
                self._ours(s, "bfloat16", str(n), "decode"),
            )
            for s in ("S", "M")
            for n in CONCURRENT[1:]
        }
        yield self._at_most(*_worst("two adapters mixed, loss of decode", each, max), MIXED_LOSS)

    def steps(self) -> Iterator[MustShow]:
        each = {
            f"{shape} at {rows}": step["times_other"]
            for shape, cells in self._results["shapes"].items()
            for rows, step in (_get(cells, self._target, "steps") or {}).items()
            if rows != "error"
        }
        what = "the chosen way, times the other's, 1 to 64 rows"
        yield self._at_least(*_worst(what, each, min), NOT_SLOWER)

    def _ours(self, shape: str, name: str, *keys: str) -> float | None:
        return self._figure(shape, self._target, f"burnish {name}", *keys)

    def _peer(self, shape: str, name: str, *keys: str) -> float | None:
        """Of the same instruction set, where it was measured."""
        held = HELD_PEERS if self._target == "avx2" else PEERS
        found = self._figure(shape, held, name, *keys)
        return self._figure(shape, PEERS, name, *keys) if found is None else found

    def _figure(self, shape: str, target: str, *keys: str) -> float | None:
        return _get(self._results["shapes"], shape, target, "contestants", *keys)

    def _times_llama_cpp(self, shape: str, form: str, *keys: str) -> float | None:
        theirs = self._peer(shape, f"llama.cpp {LLAMA_CPP[form]}", *keys)
        return _ratio(self._ours(shape, form, *keys), theirs)

    def _at_least(self, what: str, value: float | None, goal: float) -> MustShow:
        return _line(f"{self._target}: {what}", value, ">=", goal)

    def _at_most(self, what: str, value: float | None, goal: float) -> MustShow:
        return _line(f"{self._target}: {what}", value, "<=", goal)


def _of_stream(results: dict[str, Any]) -> Iterator[MustShow]:
    served = results.get("one stream")
    if served is None or "error" in served:
        return
    known = [m["read_gb_s"] for m in results["machines"].values() if "read_gb_s" in m]
    reads = max(known, default=READS_GB_S)
    goal = round(STREAM * min(1.0, reads / READS_GB_S), 1)
    what = f"{served['model']}, one stream over HTTP, tokens a second"
    yield _line(what, served["tokens_per_s"], ">=", goal)
    what = f"{served['model']}, resident MB of the serving process"
    yield _line(what, served["resident_mb"]["total"], "<=", RESIDENT_MB)


def _get(content: Any, *keys: str) -> Any:
    """What lies under the keys; None where one is missing."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _ratio(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value / other


def _loss(value: float | None, whole: float | None) -> float | None:
    ratio = _ratio(value, whole)
    return None if ratio is None else 1 - ratio


def _worst(
    what: str, each: dict[str, float | None], pick: Callable[[Iterable[float]], float]
) -> tuple[str, float | None]:
    """The worst of the figures that there are, and of which it is."""
    known = {name: value for name, value in each.items() if value is not None}
    if not known:
        return what, None
    value = pick(known.values())
    name = next(name for name, other in known.items() if other == value)
    return f"{what} ({name}, the worst of {len(known)})", value


def _line(what: str, value: float | None, sign: str, goal: float) -> MustShow:
    """A figure that was not measured meets no goal."""
    met = value is not None and (value >= goal if sign == ">=" else value <= goal)
    return MustShow(what, None if value is None else round(value, 3), f"{sign} {goal:g}", met)
