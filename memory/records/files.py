"""Memory files: an end user's files under /memories, for Anthropic's memory tool.

`run` takes the input of a tool call and answers in the texts that models trained on the tool
expect (Anthropic's documentation, "Memory tool"). Folders exist by the files in them. Every change is a
compare-and-set of what was read, so two agents never lose each other's edits. Left out:
anything outside /memories, binary content.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files as resources
from typing import Any

from burnish.memory.errors import BadStep, Stale
from burnish.memory.records.record import label
from burnish.memory.sessions.keys import TenantKeys
from burnish.memory.sessions.steps import MAX_USER, clean
from redis.asyncio import Redis

ROOT = "/memories"
MAX_BYTES = 1024 * 1024  # of one end user's files together
MAX_FILE_BYTES = 256 * 1024
MAX_LINES = 999_999
MAX_PATH = 512
SNIPPET = 4  # lines shown on each side of an edit
ATTEMPTS = 20

# Parameter -> its type and whether it may be left out, per command.
COMMANDS: Mapping[str, Mapping[str, tuple[type, bool]]] = {
    "view": {"path": (str, False), "view_range": (list, True)},
    "create": {"path": (str, False), "file_text": (str, False)},
    "str_replace": {"path": (str, False), "old_str": (str, False), "new_str": (str, True)},
    "insert": {"path": (str, False), "insert_line": (int, False), "insert_text": (str, False)},
    "delete": {"path": (str, False)},
    "rename": {"old_path": (str, False), "new_path": (str, False)},
}


@dataclass(frozen=True)
class ToolReply:
    """The content of a tool_result."""

    content: str
    is_error: bool = False


class CommandRefused(Exception):
    """Caught by `run`, which answers this text as the tool's error."""


class Files:
    """The tenant comes from the caller's key; `user` None are files that all its users share."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis
        script = (resources("burnish.memory.records") / "files.lua").read_text()
        self._change = redis.register_script(script)

    async def run(self, tenant: str, user: str | None, command: Mapping[str, Any]) -> ToolReply:
        """One command. Raises BadStep for a command or parameter there is not, TooLarge."""
        name, given = _checked(command)
        key = TenantKeys(tenant).files_of(label("user", user, MAX_USER) or "")
        for _ in range(ATTEMPTS):
            held = await self._redis.hgetall(key)
            try:
                text, after = _COMMANDS[name](held, **given)
            except CommandRefused as refused:
                return ToolReply(str(refused), is_error=True)
            outcome = 1 if after == held else await self._commit(key, held, after)
            if outcome == 1:
                return ToolReply(text)
            if outcome < 0:
                return ToolReply(f"Error: Files hold at most {MAX_BYTES} bytes together", True)
        raise Stale("these files are being changed by others all the time: try again")

    async def all(self, tenant: str, user: str | None) -> dict[str, str]:
        """Path -> content."""
        return await self._redis.hgetall(TenantKeys(tenant).files_of(user or ""))

    async def forget_user(self, tenant: str, user: str) -> int:
        """Erase all files of this end user; how many there were."""
        key = TenantKeys(tenant).files_of(user)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hlen(key)
            pipe.delete(key)
            count, _ = await pipe.execute()
        return count

    async def _commit(self, key: str, held: Mapping[str, str], after: Mapping[str, str]) -> int:
        touched = [p for p in {**held, **after} if held.get(p) != after.get(p)]
        expected = [part for path in touched for part in _entry(path, held)]
        writes = [part for path in touched for part in _entry(path, after)]
        args = [MAX_BYTES, len(touched), *expected, *writes]
        return int(await self._change(keys=[key], args=args))


def _view(held: dict[str, str], path: str, view_range: list[int] | None = None):
    path = _path(path)
    if path in held:
        lines = held[path].split("\n")
        if len(lines) > MAX_LINES:
            raise CommandRefused(f"File {path} exceeds maximum line limit of 999,999 lines.")
        first, last = _range(view_range, len(lines))
        shown = _numbered(lines, first, last)
        return f"Here's the content of {path} with line numbers:\n{shown}", held
    inside = _inside(held, path)
    if not inside and path != ROOT:
        raise CommandRefused(f"The path {path} does not exist. Please provide a valid path.")
    sizes: dict[str, int] = {}
    for file in inside:
        parts = file[len(path) + 1 :].split("/")
        if any(part.startswith(".") or part == "node_modules" for part in parts):
            continue
        for depth in range(min(len(parts), 2) + 1):
            place = "/".join([path, *parts[:depth]])
            sizes[place] = sizes.get(place, 0) + len(held[file].encode())
    listing = [f"{_size(sizes[place])}\t{place}" for place in sorted(sizes)] or [f"0\t{path}"]
    head = f"Here're the files and directories up to 2 levels deep in {path}, "
    return "\n".join([head + "excluding hidden items and node_modules:", *listing]), held


def _create(held: dict[str, str], path: str, file_text: str):
    path = _path(path)
    if path in held or _inside(held, path) or path == ROOT:
        raise CommandRefused(f"Error: File {path} already exists")
    _check_no_file_above(held, path)
    return f"File created successfully at: {path}", {**held, path: file_text}


def _str_replace(held: dict[str, str], path: str, old_str: str, new_str: str = ""):
    path = _path(path)
    if path not in held:
        raise CommandRefused(f"Error: The path {path} does not exist. Please provide a valid path.")
    text = held[path]
    places = [found.start() for found in re.finditer(re.escape(old_str), text)] if old_str else []
    if not places:
        raise CommandRefused(
            f"No replacement was performed, old_str `{old_str}` did not appear verbatim in {path}."
        )
    if len(places) > 1:
        numbers = ", ".join(str(text.count("\n", 0, place) + 1) for place in places)
        raise CommandRefused(
            f"No replacement was performed. Multiple occurrences of old_str `{old_str}` in lines:"
            f" {numbers}. Please ensure it is unique"
        )
    after = text.replace(old_str, new_str, 1)
    lines, at = after.split("\n"), text.count("\n", 0, places[0]) + 1
    last = min(at + new_str.count("\n") + SNIPPET, len(lines))
    snippet = _numbered(lines, max(at - SNIPPET, 1), last)
    return f"The memory file has been edited.\n{snippet}", {**held, path: after}


def _insert(held: dict[str, str], path: str, insert_line: int, insert_text: str):
    path = _path(path)
    if path not in held:
        raise CommandRefused(f"Error: The path {path} does not exist")
    lines = held[path].splitlines(keepends=True)
    if not 0 <= insert_line <= len(lines):
        raise CommandRefused(
            f"Error: Invalid `insert_line` parameter: {insert_line}. It should be within the range"
            f" of lines of the file: [0, {len(lines)}]"
        )
    before, after = "".join(lines[:insert_line]), "".join(lines[insert_line:])
    if before and not before.endswith("\n"):
        before += "\n"
    if after and not insert_text.endswith("\n"):
        insert_text += "\n"
    return f"The file {path} has been edited.", {**held, path: before + insert_text + after}


def _delete(held: dict[str, str], path: str):
    path = _path(path)
    deleted = {path} & set(held) or set(_inside(held, path))
    if not deleted:
        raise CommandRefused(f"Error: The path {path} does not exist")
    return f"Successfully deleted {path}", {p: t for p, t in held.items() if p not in deleted}


def _rename(held: dict[str, str], old_path: str, new_path: str):
    old, new = _path(old_path), _path(new_path)
    moved = {old} & set(held) or set(_inside(held, old))
    if not moved or old == ROOT:
        raise CommandRefused(f"Error: The path {old} does not exist")
    if new in held or _inside(held, new) or new == ROOT:
        raise CommandRefused(f"Error: The destination {new} already exists")
    rest = {path: text for path, text in held.items() if path not in moved}
    if new.startswith(f"{old}/"):
        raise CommandRefused(f"Error: The destination {new} lies inside {old}")
    _check_no_file_above(rest, new)
    after = rest | {_path(new + path[len(old) :]): held[path] for path in moved}
    return f"Successfully renamed {old} to {new}", after


_COMMANDS: Mapping[str, Any] = {
    "view": _view,
    "create": _create,
    "str_replace": _str_replace,
    "insert": _insert,
    "delete": _delete,
    "rename": _rename,
}


def _checked(command: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    name = str(command.get("command"))
    if name not in COMMANDS:
        raise BadStep(f"command must be one of {', '.join(COMMANDS)}")
    known = COMMANDS[name]
    given = {key: value for key, value in command.items() if key != "command" and value is not None}
    for key in given:
        if key not in known:
            raise BadStep(f"{name} takes no {key!r}; it takes {', '.join(known)}")
    for key, (kind, optional) in known.items():
        if key not in given and not optional:
            raise BadStep(f"{name} needs {key!r}")
        if key in given and (not isinstance(given[key], kind) or isinstance(given[key], bool)):
            raise BadStep(f"{key} must be of type {kind.__name__}")
        if key in given and kind is str:
            clean(key, given[key], MAX_FILE_BYTES)
    return name, given


def _path(path: str) -> str:
    """The path without a final slash. Refused unless it plainly lies in /memories."""
    plain = path.rstrip("/") or "/"
    parts = plain.split("/")[1:]
    strange = "\\" in path or "%" in path or not path.isprintable() or len(path) > MAX_PATH
    if strange or parts[0] != ROOT[1:] or any(part in ("", ".", "..") for part in parts):
        raise CommandRefused(
            f"Error: The path {path[:100]} is not allowed: use plain paths below {ROOT},"
            " without '..', '%' or backslashes"
        )
    return plain


def _check_no_file_above(held: Mapping[str, str], path: str) -> None:
    """Refuse a path below an existing file."""
    parts = path.split("/")
    for depth in range(3, len(parts)):
        if (folder := "/".join(parts[:depth])) in held:
            raise CommandRefused(f"Error: {folder} is a file, so {path} cannot lie below it")


def _inside(held: Iterable[str], path: str) -> list[str]:
    return [file for file in held if file.startswith(f"{path}/")]


def _range(view_range: list[int] | None, lines: int) -> tuple[int, int]:
    if view_range is None:
        return 1, lines
    well_formed = len(view_range) == 2 and all(isinstance(n, int) for n in view_range)
    last = (
        lines
        if well_formed and view_range[1] == -1
        else min(view_range[1], lines)
        if well_formed
        else 0
    )
    if not well_formed or not 1 <= view_range[0] <= last:
        raise CommandRefused(
            f"Error: Invalid `view_range` parameter: {view_range}. It should be [first, last] within"
            f" the lines of the file: [1, {lines}]"
        )
    return view_range[0], last


def _numbered(lines: list[str], first: int, last: int) -> str:
    return "\n".join(f"{n:6d}\t{lines[n - 1]}" for n in range(first, last + 1))


def _size(count: int) -> str:
    for unit, size in (("M", 2**20), ("K", 2**10)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def _entry(path: str, held: Mapping[str, str]) -> tuple[str, str, str]:
    return (path, "1", held[path]) if path in held else (path, "0", "")
