"""Whether the learner's intake keeps up: feedback that is accepted but not read does nothing.

The intake leaves the time of its last look into the stream in Redis. A learner that never ran is no
problem of this process; one that stopped looking is told.
"""

from __future__ import annotations

import time
from typing import Any

from burnish.feedback.contract import INTAKE_KEY

BEHIND_S = 30.0


async def intake_problem(redis: Any, now: float | None = None) -> str | None:
    """Why feedback is not taken in at present; None while it is. Raises RedisError."""
    looked = await redis.get(INTAKE_KEY)
    if looked is None:
        return None
    age = (time.time() if now is None else now) - float(looked)
    if age <= BEHIND_S:
        return None
    return (
        f"the intake last looked into the stream {age:.0f} s ago: feedback is kept, but not learnt"
        " from, until the learner's worker and beat run again"
    )
