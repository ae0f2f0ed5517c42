"""Memory: sessions of agents kept whole in Redis, views that fit a budget, facts that outlive both.

What other rooms use stands here; the interface of compaction policies in `burnish.memory.compaction`.
"""

from burnish.memory.errors import (
    BadCursor,
    BadStep,
    BudgetTooSmall,
    Forgotten,
    IdConflict,
    PolicyFailed,
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
from burnish.memory.export import export_user
from burnish.memory.records.forgetting import ForgettingPolicy, forget_by_policy
from burnish.memory.records.record import Record, RecordFilter
from burnish.memory.records.records import Records
from burnish.memory.search.embedding import Embedder, HashingEmbedder
from burnish.memory.sessions.appending import MAX_BATCH, Appended
from burnish.memory.sessions.changes import DELETION_GRACE
from burnish.memory.sessions.steps import Step
from burnish.memory.sessions.units import Unit
from burnish.memory.store import MemoryStore, connect
from burnish.memory.turns import Turn, Turns
from burnish.memory.user_sessions import search_user, user_sessions
from burnish.memory.views.context import ContextView, LeftOut
from burnish.memory.views.messages import STAND_IN, ViewMessage
from burnish.memory.views.shorten import clear, shorten

__all__ = [
    "DELETION_GRACE",
    "MAX_BATCH",
    "STAND_IN",
    "Appended",
    "BadCursor",
    "BadStep",
    "BudgetTooSmall",
    "ContextView",
    "Embedder",
    "ForgettingPolicy",
    "Forgotten",
    "HashingEmbedder",
    "IdConflict",
    "LeftOut",
    "MemoryStore",
    "PolicyFailed",
    "Record",
    "RecordFilter",
    "RecordNotFound",
    "Records",
    "SessionNotFound",
    "Stale",
    "StaleRecord",
    "Step",
    "StoreError",
    "TooLarge",
    "Turn",
    "TurnNotFound",
    "Turns",
    "Unit",
    "UnknownPlan",
    "UnknownPolicy",
    "ViewMessage",
    "clear",
    "connect",
    "export_user",
    "forget_by_policy",
    "search_user",
    "shorten",
    "user_sessions",
]
