"""Pauses: a person has stopped a policy's updates, until one lets them go on. Judgements are kept meanwhile.

A hash in Redis, a field for each policy: serving writes it, the learner reads it before each update. Left out: ending
an update that runs; it finishes, and passes the gate or not.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Pause:
    """`at` in seconds since the epoch."""

    at: float
    who: str
    why: str = ""

    def encoded(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def decoded(cls, text: str | bytes) -> Pause:
        return cls(**json.loads(text))

    @property
    def says(self) -> str:
        """Why nothing is trained, as a tick tells it."""
        return f"paused by {self.who}{f': {self.why}' if self.why else ''}; resume updates to go on"
