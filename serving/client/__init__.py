"""A typed Python client of memory over HTTP: `Memory`, and `AsyncMemory` with the same methods.

    with Memory("http://127.0.0.1:8080") as memory:
        memory.append("s", [{"role": "user", "content": "My name is Ana."}], user="ana")
        view = memory.context("s", budget=2000, query="who is this?")

Imports nothing but httpx2. Errors are exceptions by what the caller can do about them:

ServiceError
|-- Refused          400, 413, 422: the request has to change; `code` and `param` say what
|-- Forbidden        401, 403: the key
|-- NotFound         404: no such session, record, plan
|-- Conflict         409: someone else wrote in between (or the id is taken): read again
|-- Gone             410: forgotten; use another id
`-- Unavailable      429, 5xx, no connection: try again, after `retry_after` seconds if given

Left out: chat (use OpenAI's client), retries (a step with an id may be sent again without harm).
"""

from burnish.serving.client.aio import AsyncMemory
from burnish.serving.client.shapes import (
    Appended,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    Record,
    Refused,
    ServiceError,
    ToolResult,
    Unavailable,
    View,
)
from burnish.serving.client.sync import Memory

__all__ = [
    "Appended",
    "AsyncMemory",
    "Conflict",
    "Forbidden",
    "Gone",
    "Memory",
    "NotFound",
    "Record",
    "Refused",
    "ServiceError",
    "ToolResult",
    "Unavailable",
    "View",
]
