"""Tasks that serving asks the learner for, by their name, and what the audit log says of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import kombu.exceptions
from burnish.serving.api.errors import ApiError
from burnish.serving.api.service import Service
from fastapi import Request
from redis.exceptions import RedisError

log = logging.getLogger(__name__)


async def noted(
    service: Service, who: str, what: str, about: str, why: str, details: Mapping[str, Any]
) -> None:
    """Note it in the audit log; a full disk costs the line, not what is asked for."""
    try:
        await asyncio.to_thread(service.audit.append, who, what, about, why, details)
    except OSError as error:
        log.error("the audit log does not take '%s %s': %s", what, about, error)


async def send(request: Request, task: str, args: Sequence[Any], queue: str) -> str:
    """The task's id, once the queue has it. Raises ApiError where it does not answer."""
    client = request.app.state.celery
    try:
        sent = await asyncio.to_thread(client.send_task, task, list(args), queue=queue, retry=False)
    except (kombu.exceptions.OperationalError, RedisError, OSError) as error:
        message = f"The learner cannot be asked, its queue does not answer: {error}"
        raise ApiError(503, message, code="learner_unavailable", retry_after=5) from error
    return sent.id
