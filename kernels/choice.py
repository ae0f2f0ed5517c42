"""Which way a model is computed on this CPU: the native library, or PyTorch.

Chosen once per model shape and kind of work from times taken here (timing.py), which are kept in the
user's cache folder and read by every later start. Steps are one kind, because decoding and prefill
share the KV cache; whole sequences of the base and training are two more. Nothing is chosen per batch,
so that tokens never depend on who shares one. PyTorch is taken only where the library is slower by
more than `MARGIN`: noise decides nothing, and PyTorch holds a second copy of the weights.

Left out: GPUs, and sampling, which costs PyTorch more than these times tell.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from burnish.kernels.cpu import library, packed_file
from burnish.kernels.cpu.target import TARGET

log = logging.getLogger(__name__)

MARGIN = 0.05  # of PyTorch's time, by which the library may be slower
PATIENCE_S = 20.0  # for another process that is timing
Work = Literal["steps", "sequences", "training"]
WORKS: tuple[Work, ...] = get_args(Work)
# Fields of a config that say nothing of speed.
NAMES = ("_name_or_path", "architectures", "transformers_version", "dtype", "initializer_range")
CODE = sorted(Path(__file__).parent.glob("*.py"))  # the PyTorch way, the timing and this choice


class NotTimed(RuntimeError):
    """A shape cannot be timed here; the message says why, in one line."""


@dataclass(frozen=True)
class Shape:
    """What the speed of a model depends on besides the machine."""

    config: Any
    dtype: torch.dtype
    weights: str  # format of the packed ones

    def key(self) -> dict[str, Any]:
        """All that a choice depends on, the machine and the code included, as JSON."""
        told = self.config.to_dict()
        code = hashlib.sha256()
        for file in (*CODE, *packed_file.CODE):
            if file.is_file():
                code.update(file.read_bytes())
        return {
            "config": {
                name: value
                for name, value in sorted(told.items())
                if name not in NAMES and not name.endswith("token_id")
            },
            "dtype": str(self.dtype).removeprefix("torch."),
            "weights": self.weights,
            "processor": hashlib.sha256(library.processor().encode()).hexdigest()[:16],
            "target": TARGET.name if TARGET else None,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "code": code.hexdigest()[:16],
        }


@dataclass(frozen=True)
class Times:
    """Milliseconds of one kind of work, each way; see timing.py for how much work that is."""

    native_ms: float
    pytorch_ms: float


Timer = Callable[[Shape], Mapping[Work, Times]]


@dataclass(frozen=True)
class Way:
    """How one kind of work is computed, and why."""

    native: bool
    why: str
    times: Times | None = None

    @classmethod
    def of(cls, times: Times | None) -> Way:
        """The rule: native unless it is slower by more than `MARGIN`."""
        if times is None:
            return cls(True, "not timed: PyTorch would take too long for it")
        ratio = times.native_ms / times.pytorch_ms
        within = f", within {MARGIN:.0%}" if 1 < ratio <= 1 + MARGIN else ""
        why = f"the native library takes {ratio:.2f} of PyTorch's time{within}"
        return cls(ratio <= 1 + MARGIN, why, times)


@dataclass(frozen=True)
class Choice:
    """The way of each kind of work, when it was timed (ISO 8601), and the file that keeps it."""

    ways: Mapping[Work, Way]
    timed_at: str | None = None
    kept: Path | None = None

    @classmethod
    def same(cls, native: bool, why: str) -> Choice:
        """One way for everything, without timing."""
        return cls({work: Way(native, why) for work in WORKS})

    def but(self, work: Work, way: Way) -> Choice:
        """The same with another way of one kind of work."""
        return replace(self, ways={**self.ways, work: way})

    def native(self, work: Work) -> bool:
        return self.ways[work].native

    @property
    def any_native(self) -> bool:
        return any(way.native for way in self.ways.values())


def choose(shape: Shape, timer: Timer, patience_s: float = PATIENCE_S) -> Choice:
    """The kept choice for a shape; else `timer` times it, in one process at a time. Where it cannot,
    everything is native and nothing is kept. BURNISH_CPU forces the library."""
    if found := kept(shape):
        return found
    key = shape.key()
    path = path_of(key)
    try:
        with _alone(path.with_name("choice.lock"), patience_s):
            return _read(path, key) or _time(path, key, shape, timer)
    except NotTimed as error:
        log.warning("the native library serves, PyTorch was not timed: %s", error)
        return Choice.same(True, f"not timed: {error}")


def kept(shape: Shape) -> Choice | None:
    """The choice that needs no timing: forced, or kept from an earlier start."""
    if forced := os.environ.get("BURNISH_CPU"):
        return Choice.same(True, f"BURNISH_CPU={forced} forces it")
    key = shape.key()
    return _read(path_of(key), key)


def path_of(key: Mapping[str, Any]) -> Path:
    """Where the times for a key belong; the file need not exist."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode())
    return library.cache_folder() / f"choice-{digest.hexdigest()[:24]}.json"


def _time(path: Path, key: Mapping[str, Any], shape: Shape, timer: Timer) -> Choice:
    times = timer(shape)
    timed_at = datetime.now(UTC).isoformat(timespec="seconds")
    told = {work: asdict(found) for work, found in times.items()}
    text = json.dumps({"timed_at": timed_at, "times": told, "key": key}, indent=1, default=str)
    try:
        _write(path, text + "\n")
    except OSError as error:
        log.warning("the times are not kept, and later starts take them again: %s", error)
        return _chosen(times, timed_at, None)
    return _chosen(times, timed_at, path)


def _chosen(times: Mapping[Work, Times], timed_at: str, kept: Path | None) -> Choice:
    return Choice({work: Way.of(times.get(work)) for work in WORKS}, timed_at, kept)


def _read(path: Path, key: Mapping[str, Any]) -> Choice | None:
    """The choice that a file keeps; None if there is none, or it is damaged."""
    try:
        told = json.loads(path.read_text())
        times: dict[Work, Times] = {
            work: Times(**told["times"][work]) for work in WORKS if work in told["times"]
        }
        timed_at = datetime.fromisoformat(told["timed_at"]).isoformat()
        sound = all(0 < ms < math.inf for t in times.values() for ms in asdict(t).values())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read and is written anew: %s", path, error)
        return None
    if not sound:
        log.warning("%s holds times that cannot be, and is written anew", path)
        return None
    return _chosen(times, timed_at, path)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        draft = Path(scratch) / path.name
        draft.write_text(text)
        draft.replace(path)


@contextmanager
def _alone(lock: Path, patience_s: float) -> Iterator[None]:
    """Keep other processes from timing, which would disturb both. The kernel lets go of the lock when
    its holder ends, however it ends. NotTimed after `patience_s`; where files cannot be locked, all go."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError:
        yield
        return
    with file:
        until = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    told = f"another process has been timing for {patience_s:.0f} s"
                    raise NotTimed(told) from None
                time.sleep(0.05)
            except OSError:
                break  # a file system without locks
        yield
