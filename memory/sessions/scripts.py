"""The Lua scripts of a session, registered on one client, and their refusals as errors."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from burnish.memory.errors import (
    BadCursor,
    BadStep,
    Forgotten,
    IdConflict,
    SessionNotFound,
    Stale,
    UnknownPlan,
)
from burnish.memory.sessions.keys import SessionKeys
from burnish.memory.sessions.steps import clean
from redis.asyncio import Redis
from redis.commands.core import AsyncScript


class Scripts:
    def __init__(self, redis: Redis) -> None:
        folder = files("burnish.memory.sessions")

        def script(name: str) -> AsyncScript:
            return redis.register_script((folder / f"{name}.lua").read_text())

        self.append = script("append")
        self.rank = script("rank")
        self.change = script("change")
        self.forget_session = script("forget_session")
        self.forget_steps = script("forget_steps")

    async def changed(
        self, keys: SessionKeys, now: float, kind: str, *args: Any, undoes: int | str = ""
    ) -> Sequence[Any]:
        """Run change.lua; [version, ...]. Raises what it refuses."""
        reply = await self.change(keys=keys.fixed, args=[f"{now:.3f}", undoes, kind, *args])
        if reply[0] != "ok":
            raise refusal(reply[0], str(reply[1]), keys.session)
        return [int(reply[1]), *reply[2:]]


def session_keys(tenant: str, session: str) -> SessionKeys:
    """The keys of a session. Raises BadStep for a name no session can have."""
    clean("session_id", session, 256)
    if not session or not session.isprintable():
        raise BadStep("a session id is 1 to 256 printable characters")
    return SessionKeys(tenant, session)


def refusal(problem: str, what: str, session: str) -> Exception:
    """The error for a script's reply {problem, what}."""
    match problem:
        case "forgotten":
            return Forgotten(f"session {session!r} was forgotten: start one with another id")
        case "gone":
            return Forgotten(f"step {what!r} was forgotten and is not taken back")
        case "final":
            return Forgotten(f"the deletion of step {what!r} is final: there is nothing to restore")
        case "deleted":
            return BadCursor(f"step {what!r} is deleted: restore it first")
        case "conflict":
            return IdConflict(f"id {what!r} is in the log with different content: use a new id")
        case "orphan":
            return BadStep(
                f"no open tool call {what!r}: it has its result already, or the assistant step with"
                " its tool_calls is still to be appended"
            )
        case "missing":
            return BadCursor(f"no step {what!r} in session {session!r}")
        case "stale":
            return Stale(f"the view changed meanwhile, the session is at version {what}: try again")
        case "no plan":
            return UnknownPlan(f"no plan {what!r} (any more) in session {session!r}")
        case _:
            return SessionNotFound(f"no session {session!r}: append a step to begin it")
