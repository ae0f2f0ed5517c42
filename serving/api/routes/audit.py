"""GET /v1/audit: who did what to the service, and why (feedback/audit.py). It takes the scope "admin"."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.json_body import Route
from burnish.serving.api.service import service_of
from fastapi import APIRouter, Depends, Query, Request


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1/audit", tags=["audit"], route_class=Route)

    @api.get("")
    async def entries(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        check: bool = False,
        _: Principal = Depends(auth.require("admin")),
    ) -> dict[str, Any]:
        """Newest first; with `check` also where the log was changed, removed from or cut off (`problems`)."""
        log = service_of(request).audit
        found = await asyncio.to_thread(log.entries, limit)
        told: dict[str, Any] = {"object": "list", "data": [asdict(e) for e in reversed(found)]}
        return told | ({"problems": await asyncio.to_thread(log.check)} if check else {})

    return api
