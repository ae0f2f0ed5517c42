"""What the memory routes share: the caller, strict bodies, and memory's errors as ApiErrors."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Protocol

from burnish.feedback.ranges import Moment
from burnish.memory import (
    BadCursor,
    BudgetTooSmall,
    Forgotten,
    IdConflict,
    RecordNotFound,
    SessionNotFound,
    Stale,
    StaleRecord,
    StoreError,
    TooLarge,
    TurnNotFound,
    UnknownPlan,
    UnknownPolicy,
)
from burnish.serving.api import json_body
from burnish.serving.api.errors import ApiError, disk_full
from burnish.serving.api.service import Service
from fastapi import Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict
from redis.exceptions import RedisError

# The first class that matches decides; any other refusal is a 400.
_RESPONSES: tuple[tuple[type[StoreError], int, str, str | None], ...] = (
    (TooLarge, 413, "too_large", None),
    (BudgetTooSmall, 400, "budget_too_small", "budget"),
    (BadCursor, 400, "bad_cursor", "cursor"),
    (IdConflict, 409, "id_conflict", "id"),
    (StaleRecord, 409, "stale_version", "if_version"),
    (Stale, 409, "stale_version", "version"),
    (UnknownPolicy, 400, "unknown_policy", "policy"),
    (UnknownPlan, 404, "plan_not_found", "plan"),
    (SessionNotFound, 404, "session_not_found", "session_id"),
    (TurnNotFound, 404, "response_not_found", "response_id"),
    (RecordNotFound, 404, "record_not_found", "record_id"),
    (Forgotten, 410, "forgotten", None),
    (StoreError, 400, "bad_step", None),
)

Limit = Annotated[int, Query(ge=1, le=1000)]


def _seconds(value: object) -> object:
    """ISO 8601 to seconds since 1970; a number as text becomes one; the rest pydantic refuses."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        pass
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("send seconds since 1970 or an ISO 8601 moment") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


Time = Annotated[Moment, BeforeValidator(_seconds)]


class Caller(Protocol):
    """Who sent the request, as far as the routes need to know."""

    @property
    def tenant(self) -> str: ...


class Route(json_body.Route):
    """Turns memory's errors into the service's error shape."""

    def get_route_handler(self) -> Callable:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except StoreError as error:
                status, code, param = next(a[1:] for a in _RESPONSES if isinstance(error, a[0]))
                raise ApiError(status, str(error), code=code, param=param) from error
            except RedisError as error:
                service: Service | None = getattr(request.app.state, "service", None)
                if service is not None and service.disk.is_full():
                    raise disk_full(service.disk) from error
                message = "Memory's Redis does not answer; try again shortly."
                raise ApiError(503, message, code="memory_unavailable", retry_after=1) from error

        return answer


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
