"""/openapi.json and /docs: what the API takes and answers, told by the service itself.

FastAPI writes the requests; the errors, which it does not know, are added here. The page of /docs is
one of ours (page/docs.html), with nothing from another host. Left out: the fields of answers, which
are OpenAI's, Anthropic's or told by the README.
"""

from __future__ import annotations

from typing import Any

from burnish.serving.api.errors import MESSAGES
from fastapi import FastAPI

_CHANGING = ("post", "put", "patch", "delete")
ERRORS = {
    400: "A field is wrong; `param` names it",
    401: "No valid API key",
    403: "The key lacks a scope, or the host or origin is not allowed",
    404: "Not found",
    408: "The body did not arrive in time",
    409: "Changed meanwhile, nothing to do, or not recorded",
    410: "Forgotten for good",
    413: "Too large",
    415: "Not JSON",
    429: "Too many requests; Retry-After says when to come back",
    500: "A bug; the log has the rest",
    503: "Not now; Retry-After says when to come back",
}
_MESSAGE = "message-"  # errors in Anthropic's shape
_TOLD = {
    "type": "object",
    "required": ["message", "type", "param", "code"],
    "properties": {
        "message": {"type": "string"},
        "type": {"type": "string"},
        "param": {"type": ["string", "null"]},
        "code": {"type": ["string", "null"]},
    },
}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": _TOLD}}
_MESSAGE_ERROR = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {"type": {"const": "error"}, "error": _TOLD},
}


def install(app: FastAPI) -> None:
    """Make `app.openapi()` tell of errors and keys too."""
    requests_only = app.openapi

    def whole() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_errors(requests_only())
        return app.openapi_schema

    app.openapi = whole


def _with_errors(document: dict[str, Any]) -> dict[str, Any]:
    components = document["components"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["responses"] = {
        f"{shape}{status}": {
            "description": why,
            "content": {"application/json": {"schema": schema}},
        }
        for shape, schema in (("", _ERROR), (_MESSAGE, _MESSAGE_ERROR))
        for status, why in ERRORS.items()
    }
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["responses"].pop("422", None)
            shape = _MESSAGE if path.startswith(MESSAGES) else ""
            for status in _possible(path, method):
                shared = {"$ref": f"#/components/responses/{shape}{status}"}
                operation["responses"].setdefault(str(status), shared)
            if path.startswith("/v1/") or path == "/metrics":
                operation["security"] = [
                    {"key": []},
                    {"x-api-key": []},
                    {},
                ]  # without keys on loopback, none
    return document


def _possible(path: str, method: str) -> list[int]:
    statuses = [400, 403, 500, 503]
    if path.startswith("/v1/") or path == "/metrics":
        statuses += [401, 429]
    if path.startswith("/v1/"):
        statuses += [404]
    if path.startswith("/v1/feedback"):
        statuses += [409]
    if path.startswith(("/v1/memory/", "/v1/policies/")):
        statuses += [409, 410]
    if path.startswith("/v1/memory/"):
        statuses += [413]  # of names too, which have a limit in bytes
    if method in _CHANGING:
        statuses += [408, 413, 415]
    return sorted(set(statuses))
