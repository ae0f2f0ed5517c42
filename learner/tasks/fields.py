"""The fields of a task as JSON, and a task made of them; problems name the field.

messages    the chat as OpenAI writes it; the answer to its last message is checked
check       what a right answer is: one or more of checks.py
tools       tools that the chat offers, as OpenAI writes them
family      what kind of task it is, "orders" say (default: the pack's name)
level       1 (easiest) to 9
split       "train" or "heldout" (default: chosen by a hash of the prompt)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from burnish.learner.tasks import checks
from burnish.learner.tasks.task import Check, PackError, Split, Task
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    StringConstraints,
    ValidationError,
)

Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\w./ -]+$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Texts = Text | Annotated[list[Text], Field(min_length=1)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, JsonValue]] | None = None


class Number(_Fields):
    value: FiniteFloat
    tolerance: Annotated[FiniteFloat, Field(ge=0)] = 0.0


class CheckFields(_Fields):
    exact: Texts | None = None
    number: FiniteFloat | Number | None = None
    regex: Text | None = None
    contains: Texts | None = None
    schema_: dict[str, JsonValue] | bool | None = Field(default=None, alias="schema")
    python: Text | None = None

    def parts(self, folder: Path) -> list[Check]:
        """One check for each name that is given. Raises PackError, which names it."""
        made: list[Check] = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is None:
                continue
            name = name.rstrip("_")
            try:
                made.append(_MAKERS[name](value, folder))
            except PackError as error:
                raise PackError(f"check.{name}: {error}") from error
        return made


_MAKERS: Mapping[str, Callable[[Any, Path], Check]] = {
    "exact": lambda value, _: checks.exact([value] if isinstance(value, str) else value),
    "number": lambda value, _: (
        checks.number(value.value, value.tolerance)
        if isinstance(value, Number)
        else checks.number(value)
    ),
    "regex": lambda value, _: checks.regex(value),
    "contains": lambda value, _: checks.contains([value] if isinstance(value, str) else value),
    "schema": lambda value, _: checks.schema(value),
    "python": checks.python,
}


class TaskFields(_Fields):
    messages: Annotated[list[Message], Field(min_length=1)]
    check: CheckFields
    tools: list[dict[str, JsonValue]] | None = None
    family: Name | None = None
    level: Annotated[int, Field(ge=1, le=9)] = 1
    split: Split | None = None


def task_of(fields: Mapping[str, Any], pack: str, folder: Path = Path()) -> Task:
    """The task of a mapping; `pack` names its family where it does not. Files of checks are looked up
    in `folder`. Raises PackError with every problem, each with the field it is about."""
    check = fields.get("check")
    own = cast(Check, check) if callable(check) else None
    try:
        read = TaskFields.model_validate({**fields, "check": {"exact": "-"}} if own else fields)
    except ValidationError as error:
        raise PackError("; ".join(dict.fromkeys(map(_problem, error.errors())))) from error
    if read.messages[-1].role == "assistant":
        raise PackError("messages: the last one is the assistant's, and there is nothing to answer")
    parts = [own] if own else read.check.parts(folder)
    if not parts:
        names = ", ".join(_MAKERS)
        raise PackError(f"check: it names none of {names}")
    return Task(
        read.family or pack,
        tuple(message.model_dump(exclude_unset=True) for message in read.messages),
        check=_all_of(parts),
        tools=tuple(read.tools) if read.tools else None,
        level=read.level,
    )


def _all_of(parts: Sequence[Check]) -> Check:
    def check(answer: str) -> bool:
        verdict = True
        for part in parts:
            verdict = part(answer)
            if verdict is not True:  # wrong, or no verdict at all: `Task.is_correct` tells which
                break
        return verdict

    return check


def _problem(error: Any) -> str:
    """`FIELD: WHY`, one and the same for all branches of a field that may be one of several things."""
    where = [str(part) for part in error["loc"]]
    if where[:1] == ["check"] and (shape := _SHAPES.get(where[1] if where[1:] else "")):
        return f"check.{where[1]}: {shape}"
    if error["type"] == "extra_forbidden":
        known = CheckFields if where[:1] == ["check"] else TaskFields
        names = ", ".join(name.rstrip("_") for name in known.model_fields)
        return f"{'.'.join(where)}: no such field; there are {names}"
    return f"{'.'.join(where) or 'line'}: {error['msg']}"


_SHAPES = {
    "exact": "it must be a text, or a list of texts",
    "contains": "it must be a text, or a list of texts",
    "number": 'it must be a number, or {"value": ..., "tolerance": ...}',
    "schema": "it must be a JSON Schema",
}
