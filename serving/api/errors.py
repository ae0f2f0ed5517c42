"""Errors for clients: one exception, told as the API that was asked tells errors.

Every 4xx and 5xx of the service has the shape `{"error": {message, type, param, code}}`, so that
OpenAI's own clients raise their own exceptions for it, and below /v1/messages Anthropic's. Left out: wording per route;
the caller says what is wrong and what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from burnish.feedback.disk import RETRY_AFTER_S
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

_FIELD = re.compile(r"(\w*)(.*)", re.DOTALL)
# Pydantic's complaints about a value's kind, whatever it says, as the kind that was expected.
_KINDS = {
    "bool_parsing": "a boolean",
    "bool_type": "a boolean",
    "dict_type": "an object",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "int_type": "an integer",
    "list_type": "a list",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_type": "a string",
}
MESSAGES = "/v1/messages"  # Anthropic's API, whose errors have its own shape
_MESSAGE_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An answer other than 2xx. `param` names the field at fault, `code` is for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    def renamed(self, names: Mapping[str, str]) -> ApiError:
        """The same about another API's field: `names` has what that calls ours."""
        field, rest = _FIELD.match(self.param or "").groups()  # type: ignore[union-attr]
        if field not in names:
            return self
        name = names[field] + rest
        message = self.message.replace(f"'{self.param}'", f"'{name}'")
        return self.about(name, message)

    def about(self, param: str | None, message: str | None = None) -> ApiError:
        """The same with another field at fault."""
        other = ApiError(self.status, message or self.message, code=self.code, param=param)
        other.headers = self.headers
        return other

    def body(self) -> dict[str, Any]:
        """In OpenAI's shape."""
        return {"error": self._told(_TYPES)}

    def message_body(self) -> dict[str, Any]:
        """In Anthropic's shape."""
        return {"type": "error", "error": self._told(_MESSAGE_TYPES)}

    def response(self, path: str) -> JSONResponse:
        """As the API at `path` tells errors."""
        told = self.message_body() if path.startswith(MESSAGES) else self.body()
        return JSONResponse(told, self.status, headers=self.headers)

    def _told(self, types: Mapping[int, str]) -> dict[str, Any]:
        kind = types.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        return {"message": self.message, "type": kind, "param": self.param, "code": self.code}


def disk_full(why: object) -> ApiError:
    """Nothing can be stored for want of space. `why` names the folder and what is free."""
    message = f"Nothing can be stored now: {why}."
    return ApiError(503, message, code="disk_full", retry_after=RETRY_AFTER_S)


def unsupported(param: str, why: str) -> ApiError:
    """A parameter we know and do not do. Ignoring it would be a lie."""
    return ApiError(
        400, f"Unsupported parameter: '{param}'. {why}", code="unsupported_parameter", param=param
    )


def internal_error() -> ApiError:
    """What a client is told of a bug."""
    return ApiError(500, "The server failed; its log says why.", code="internal_error")


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Within, an ApiError names its field as `names` does."""
    try:
        yield
    except ApiError as error:
        raise error.renamed(names) from error


def path_of(path: Iterable[str | int]) -> str:
    """A place in a JSON value as OpenAI writes it: `messages[0].content`."""
    written = ""
    for part in path:
        dot = "." if written else ""
        written += f"[{part}]" if isinstance(part, int) else f"{dot}{part}"
    return written


def _holds(container: Any, part: str | int) -> bool:
    if isinstance(container, list):
        return isinstance(part, int) and part < len(container)
    return isinstance(container, dict) and part in container


def _place(loc: Sequence[str | int], kind: str, given: Any) -> list[str | int]:
    """Pydantic's place of an error without what is no part of the request: where it was sent, and
    which member of a union was tried. `given` is the body."""
    if not loc or loc[0] != "body":
        return list(loc[1:] if loc[:1] in [("query",), ("path",), ("header",)] else loc)
    place: list[str | int] = []
    for part in loc[1:]:
        if _holds(given, part):
            given = given[part]
        elif not (kind == "missing" and isinstance(given, dict) and part == loc[-1]):
            continue
        place.append(part)
    return place


def from_validation(errors: Any, given: Any = None) -> ApiError:
    """The first of pydantic's complaints in OpenAI's words: which field, what is wrong, the fix.

    `given` is the body, for places in it.
    """
    places = [_place(error["loc"], error["type"], given) for error in errors]
    # Of a union every member complains; the one that got furthest knows what was meant.
    alike = [i for i, place in enumerate(places) if place[: len(places[0])] == places[0]]
    chosen = max(alike, key=lambda i: len(places[i]))
    kinds = [_KINDS.get(errors[i]["type"]) for i in alike if places[i] == places[chosen]]
    first, param = errors[chosen], path_of(places[chosen]) or None
    refusal = getattr(first.get("ctx", {}).get("error"), "api_error", None)
    if refusal is not None:  # chat_requests.ValidationRefusal
        return refusal if refusal.param else refusal.about(param)
    if first["type"] == "unsupported_item":
        message = f"Invalid value for '{param}': {first['msg']}."
        return ApiError(400, message, code="unsupported_item", param=param)
    if first["type"] == "extra_forbidden":
        return ApiError(
            400, f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param
        )
    if first["type"] == "missing":
        message = f"Missing required parameter: '{param}'." if param else "A JSON body is required."
        return ApiError(400, message, code="missing_required_parameter", param=param)
    if first["type"] == "json_invalid":
        return ApiError(400, "The body is not valid JSON.", code="invalid_json")
    message = first["msg"].removeprefix("Value error, ")
    if None not in kinds:  # another member of a union may have complained of more than the kind
        message = f"should be {' or '.join(dict.fromkeys(map(str, kinds)))}"
    subject = f"'{param}': " if param else ""
    return ApiError(400, f"Invalid value for {subject}{message}", code="invalid_value", param=param)


def install(app: FastAPI) -> None:
    """Give every error of `app` the one shape."""

    @app.exception_handler(ApiError)
    async def _ours(request: Request, error: ApiError) -> JSONResponse:
        return error.response(request.url.path)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return from_validation(error.errors(), error.body).response(request.url.path)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code in (404, 405):
            message = f"{message}: {request.method} {request.url.path}"
        shaped = ApiError(error.status_code, message)
        shaped.headers = dict(error.headers or {})
        return shaped.response(request.url.path)

    @app.exception_handler(500)
    async def _bug(request: Request, _: Exception) -> JSONResponse:
        return internal_error().response(request.url.path)
