"""/v1/memory: sessions, compaction, records, erasure and the memory tool, one file each.

Pydantic checks the shapes, `burnish.memory` checks the content, and its errors become OpenAI-shaped
4xx responses (route.py). The tenant is the API key's; no request can name one.
"""

from collections.abc import Callable
from typing import Any

from burnish.memory import MemoryStore
from burnish.serving.api.routes.memory import compaction, erasure, records, sessions, tool, users
from fastapi import APIRouter


def router(get_store: Callable[..., MemoryStore], auth: Callable[..., Any]) -> APIRouter:
    """`auth` is a dependency that gives a `Caller` and has checked the scope."""
    api = APIRouter(prefix="/v1/memory", tags=["memory"])
    for resource in (users, sessions, compaction, records, erasure, tool):
        api.include_router(resource.router(get_store, auth))
    return api
