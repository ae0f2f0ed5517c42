"""Bodies, paths and queries as text and JSON that everything behind them can take.

`Route` parses a body once and checks it before any route sees it: valid UTF-8, finite numbers of at
most 64 bits, nesting a recursive function survives, text that can be encoded and that a database
stores. Python's parser and pydantic let all of these pass. Left out: which fields a body has, and
its size (admission.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from burnish.serving.api.errors import ApiError, path_of
from burnish.serving.api.off_loop import off_loop
from fastapi import Request, Response
from fastapi.routing import APIRoute

MAX_DEPTH = 64
MAX_MEMBERS = 10_000  # of one object: an unknown one is an error of its own
MIN_INT, MAX_INT = -(2**63), 2**64 - 1  # schemas name the limits of unsigned integers too

Path = tuple[str | int, ...]


class Route(APIRoute):
    """A route whose texts and JSON have been checked. Every router of the service is made of these."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            check_texts((*request.path_params.items(), *request.query_params.multi_items()))
            checked = CheckedRequest(request.scope, request.receive)
            if self.body_field is not None and await checked.body():
                await checked.json()  # here, where its ApiError is still one
            return await handle(checked)

        return answer


class CheckedRequest(Request):
    """A request whose `json` refuses what is behind it could not take. Raises ApiError."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body = await self.body()
            self._json = await off_loop(len(body) / 10, lambda: parse(body))
        return self._json


def parse(body: bytes) -> Any:
    """The JSON value of a body. Raises ApiError (400) naming the field."""
    try:
        value = json.loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ApiError(400, "The body is not UTF-8.", code="invalid_json") from error
    except RecursionError as error:
        raise ApiError(400, f"The body is invalid: {_TOO_DEEP}.", code="invalid_value") from error
    except ValueError as error:  # also a number of more digits than Python reads
        raise ApiError(400, f"The body is not valid JSON: {error}", code="invalid_json") from error
    check(value)
    return value


def check(value: Any) -> None:
    """Refuse the first member that cannot be kept or passed on. Raises ApiError (400)."""
    problem = _problem(value)
    if problem is not None:
        path, why = problem
        param = path_of(path) or None
        where = f" for '{param}'" if param else ""
        raise ApiError(400, f"Invalid value{where}: {why}.", code="invalid_value", param=param)


def check_texts(named: Iterable[tuple[str, Any]]) -> None:
    """The same for the texts of a path or a query."""
    for name, text in named:
        if isinstance(text, str) and (why := _in_text(text)):
            raise ApiError(
                400, f"Invalid value for '{name}': {why}.", code="invalid_value", param=name
            )


_TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep"


def _problem(value: Any) -> tuple[Path, str] | None:
    """Where the value is at fault, and why. Level by level, as recursion is what must not be met."""
    if not isinstance(value, dict | list):
        why = _in_scalar(value)
        return None if why is None else ((), why)
    level: list[tuple[Path, dict | list]] = [((), value)]
    for _ in range(MAX_DEPTH):
        deeper: list[tuple[Path, dict | list]] = []
        for path, container in level:
            if isinstance(container, dict):
                if len(container) > MAX_MEMBERS:
                    return path, f"an object of more than {MAX_MEMBERS} members"
                for key in container:
                    if (why := _in_text(key)) is not None:
                        return path, f"a member's name: {why}"
                members: Iterable[tuple[str | int, Any]] = container.items()
            else:
                members = enumerate(container)
            for key, member in members:
                if isinstance(member, dict | list):
                    deeper.append(((*path, key), member))
                elif (why := _in_scalar(member)) is not None:
                    return (*path, key), why
        if not deeper:
            return None
        level = deeper
    return level[0][0][:1], _TOO_DEEP


def _in_scalar(value: Any) -> str | None:
    if isinstance(value, str):
        return _in_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "numbers are finite"
    if isinstance(value, int) and not MIN_INT <= value <= MAX_INT:
        return "integers have at most 64 bits"
    return None


def _in_text(text: str) -> str | None:
    if "\0" in text:
        return "text has no NUL characters"
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"half of a surrogate pair at character {error.start} is not text"
    return None
