"""Where the tasks come from: the packs that BURNISH_TASKS names, as one source for rehearsal and gate.

A source is a built-in pack, a JSONL file or a folder of them, or a name in the entry-point group
`burnish.tasks`. Whatever cannot be used of one is a note, told in the tick's line, and the rest is used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from random import Random
from typing import Any, cast

from burnish.learner.tasks.jsonl import JsonlPack
from burnish.learner.tasks.pack import Generator, GeneratorPack, Pool, TaskPack
from burnish.learner.tasks.task import PackError, Split, Task

GROUP = "burnish.tasks"
AUTO = "auto"
BUILT_IN = {
    "ember": "burnish.learner.tasks.ember.pack:PACK",
    "general": "burnish.learner.tasks.general:PACK",
    "reasoning-gym": "burnish.learner.tasks.reasoning_gym:PACK",
}


@dataclass(frozen=True)
class TaskSource:
    """Several packs as one. `notes` says what of them could not be used, each once; copies share it."""

    packs: Sequence[TaskPack] = ()
    left_out: frozenset[str] = frozenset()
    notes: dict[str, None] = field(default_factory=dict)

    @property
    def pools(self) -> list[Pool]:
        """Every family and level, of the first pack that has the family."""
        owners = self._owners()
        return [
            pool
            for pack in self.packs
            for pool in pack.pools
            if owners[pool[0]] is pack and pool[0] not in self.left_out
        ]

    @property
    def families(self) -> list[str]:
        return list(dict.fromkeys(family for family, _ in self.pools))

    @property
    def calibrated(self) -> frozenset[str]:
        """The families of packs that want to be fitted to the base."""
        owners = self._owners()
        return frozenset(family for family in self.families if owners[family].calibrated)

    def draw(
        self, rng: Random, family: str, split: Split, level: int | None = None
    ) -> Iterator[Task]:
        """Tasks of one family; a generator that fails ends them, with a note."""
        try:
            yield from self._owners()[family].draw(rng, family, split, level)
        except PackError as error:
            self.note(str(error))

    def without(self, families: Collection[str]) -> TaskSource:
        return replace(self, left_out=self.left_out | frozenset(families))

    def note(self, what: str) -> None:
        self.notes[what] = None

    def _owners(self) -> Mapping[str, TaskPack]:
        owners: dict[str, TaskPack] = {}
        for pack in self.packs:
            for family, _ in pack.pools:
                owners.setdefault(family, pack)
        return owners


def open_source(setting: str, automatic: str = "general") -> TaskSource:
    """The packs that a setting names, separated by commas; `auto` stands for `automatic`. One that does not exist,
    or holds no task that can be used, is a note beside those that do. Raises PackError where none does."""
    source = TaskSource([])
    packs: list[TaskPack] = []
    refused: list[PackError] = []
    for name in filter(None, map(str.strip, setting.split(","))):
        for opened in open_packs(automatic if name == AUTO else name):
            try:
                packs.append(pack := opened())
            except PackError as error:
                refused.append(error)
                continue
            if isinstance(pack, JsonlPack):
                _note_problems(source, pack)
    if refused and not packs:
        raise refused[0]
    for error in refused:
        source.note(str(error))
    return replace(source, packs=packs)


def _note_problems(source: TaskSource, pack: JsonlPack) -> None:
    more = f" (and {len(pack.problems) - 1} lines more)" if pack.problems[1:] else ""
    for problem in pack.problems[:1]:
        source.note(f"{problem}{more}")


def open_packs(name: str) -> list[Callable[[], TaskPack]]:
    """What opens each pack of one source, or raises PackError."""
    path = Path(name).expanduser()
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else []
    return [partial(_file_pack, file) for file in files] or [partial(_open_pack, name)]


def _open_pack(name: str) -> TaskPack:
    if name in BUILT_IN:
        return _as_pack(name, EntryPoint(name, BUILT_IN[name], GROUP))
    path = Path(name).expanduser()
    if path.is_dir():
        raise PackError(f"{name}: no *.jsonl file in this folder")
    if path.is_file() or path.suffix == ".jsonl":
        return _file_pack(path)
    offered = {point.name: point for point in entry_points(group=GROUP)}
    if name not in offered:
        known = ", ".join([AUTO, *BUILT_IN, *offered])
        raise PackError(f"{name}: neither a file nor a pack; there are {known}")
    return _as_pack(name, offered[name])


def _file_pack(path: Path) -> JsonlPack:
    pack = JsonlPack(path)
    if not pack.tasks:
        first = f", first {pack.problems[0]}" if pack.problems else ""
        raise PackError(f"{pack.path}: no line of it is a task{first}")
    return pack


def _as_pack(name: str, point: EntryPoint) -> TaskPack:
    try:
        offered: Any = point.load()
    except Exception as error:
        # Importing runs other people's code, which may raise anything.
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise PackError(f"{name}: {point.value} cannot be imported: {why}") from error
    if hasattr(offered, "draw"):
        return offered
    if isinstance(offered, Mapping):
        return GeneratorPack(name, offered)
    if callable(offered):
        return GeneratorPack(name, {name: cast(Generator, offered)})
    raise PackError(f"{name}: {point.value} is no pack, no generator and no mapping of generators")
