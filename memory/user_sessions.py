"""All sessions of one end user: listed, and searched together. Left out: export (export.py)."""

from contextlib import suppress
from typing import Any

from burnish.memory.errors import Forgotten, SessionNotFound
from burnish.memory.store import MemoryStore


async def user_sessions(
    store: MemoryStore, tenant: str, user: str, after: str = "", limit: int = 50
) -> list[dict[str, Any]]:
    """Stats of the sessions an end user took part in, by name, from behind `after`."""
    found: list[dict[str, Any]] = []
    for session in await store.sessions_of(tenant, user):
        if session > after and len(found) < limit:
            with suppress(SessionNotFound, Forgotten):  # never begun, or forgotten meanwhile
                found.append(await store.stats(tenant, session))
    return found


async def search_user(
    store: MemoryStore, tenant: str, user: str, query: str, limit: int = 10
) -> list[dict[str, Any]]:
    """The steps that match best in any session of an end user, each with `session_id` and `score`.

    Scores are each session's own BM25, so they compare roughly. Linear in the sessions.
    """
    found: list[dict[str, Any]] = []
    for session in await store.sessions_of(tenant, user):
        with suppress(SessionNotFound, Forgotten):
            hits = await store.search(tenant, session, query, limit)
            found += [{"session_id": session, **hit} for hit in hits]
    return sorted(found, key=lambda hit: -hit["score"])[:limit]
