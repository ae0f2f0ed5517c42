"""Checks of answers, by the names that a line of a pack gives them.

    exact       the whole answer is this text (or one of these), blanks aside
    number      the last number in the answer is this one, within a tolerance
    regex       the pattern is found somewhere in the answer
    contains    this text (or each of these) is in the answer, upper and lower case aside
    schema      the answer, or the one fenced block in it, is JSON that this JSON Schema accepts
    python      a function of the answer that returns a bool: `package.module:function`, or
                `file.py:function` beside the pack

A line may name several; then all must hold.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.learner.tasks.task import Check, PackError

# As people write them: grouped by commas or not, with a point and a sign.
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\w)")
_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_FENCED = re.compile(r"```[\w-]*\s*\n(.*?)\n?\s*```", re.DOTALL)


def exact(texts: Sequence[str]) -> Check:
    wanted = {_squeezed(text) for text in texts}
    return lambda answer: _squeezed(answer) in wanted


def number(value: float, tolerance: float = 0.0) -> Check:
    slack = tolerance + 1e-12 * abs(value)  # 0.1 + 0.2 is 0.3

    def check(answer: str) -> bool:
        found = numbers_in(answer)
        return bool(found) and math.isclose(found[-1], value, rel_tol=0.0, abs_tol=slack)

    return check


def numbers_in(text: str) -> list[float]:
    return [float(n.replace(",", "").replace("−", "-")) for n in _NUMBER.findall(text)]


def regex(pattern: str) -> Check:
    """Raises PackError for a pattern that does not compile."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise PackError(f"not a regular expression: {error}") from error
    return lambda answer: compiled.search(answer) is not None


def contains(texts: Sequence[str]) -> Check:
    wanted = [text.casefold() for text in texts]
    return lambda answer: all(text in answer.casefold() for text in wanted)


def schema(wanted: Any) -> Check:
    """Raises PackError for what is no JSON Schema."""
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    kind = validator_for(wanted)
    try:
        kind.check_schema(wanted)
    except SchemaError as error:
        raise PackError(f"not a JSON Schema: {error.message}") from error
    validator = kind(wanted)

    def check(answer: str) -> bool:
        found, is_json = json_in(answer)
        return is_json and validator.is_valid(found)

    return check


def tool_call(name: str, arguments: Mapping[str, Any]) -> Check:
    """The answer is one call of this tool with these arguments, in the markup that the service reads; numbers may
    be written as text, and case does not count. Only for packs in Python."""
    wanted = {key: str(value).casefold() for key, value in arguments.items()}

    def check(answer: str) -> bool:
        found = _CALL.findall(answer)
        if len(found) != 1:
            return False
        try:
            call = json.loads(found[0])
        except ValueError:
            return False
        if not isinstance(call, dict) or call.get("name") != name:
            return False
        given = call.get("arguments")
        return isinstance(given, dict) and wanted == {
            key: str(value).strip().casefold() for key, value in given.items()
        }

    return check


def json_in(text: str) -> tuple[Any, bool]:
    """The JSON value that an answer is, or that its one fenced block is; and whether there is one."""
    fenced = _FENCED.findall(text)
    try:
        return json.loads(fenced[0] if len(fenced) == 1 else text), True
    except ValueError:
        return None, False


def python(name: str, folder: Path) -> Check:
    """The function that `name` means, a file of it looked up in `folder`. Raises PackError."""
    where, _, attribute = name.rpartition(":")
    if not where or not attribute.isidentifier():
        raise PackError("write module:function, or file.py:function beside the pack")
    try:
        module = _module_of(folder / where) if where.endswith(".py") else _imported(where)
    except Exception as error:
        # Importing runs other people's code, which may raise anything.
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise PackError(f"{where} cannot be imported: {why}") from error
    function: Callable[[str], bool] | None = getattr(module, attribute, None)
    if not callable(function):
        raise PackError(f"{where} has no function {attribute!r}")
    return function


def _imported(name: str) -> Any:
    return importlib.import_module(name)


def _module_of(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"burnish_pack_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"no Python file {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _squeezed(text: str) -> str:
    return " ".join(text.split())
