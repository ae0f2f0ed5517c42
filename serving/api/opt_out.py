"""Opt-out: answers that are given and not learnt from.

`store: false` in a body, OpenAI's field, or the header `X-No-Training` keeps an interaction out of the
spool and the stream. Its id says so (feedback/ids.py), so that feedback on it is refused without a
look-up. Left out: memory, which keeps what a client asks it to keep by `session_id`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from burnish.serving.api.errors import ApiError
from fastapi import Depends, Header

HEADER = "X-No-Training"
_SAID = {"true": True, "1": True, "false": False, "0": False}

MayRecord = Callable[[bool], bool]


async def _may_record(
    opted_out: Annotated[
        str | None,
        Header(alias=HEADER, max_length=16, description="`true`: this answer is not learnt from"),
    ] = None,
) -> MayRecord:
    kept_out = False if opted_out is None else _SAID.get(opted_out.strip().lower())
    if kept_out is None:
        message = f"Invalid value for '{HEADER}': 'true' keeps this answer out of training."
        raise ApiError(400, message, param=HEADER, code="invalid_value")
    return lambda store: store and not kept_out


may_record: MayRecord = Depends(_may_record)
"""A route's default: tells of a body's `store` whether the interaction is recorded."""
