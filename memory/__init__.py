"""Memory: what an agent did, kept whole, and what of it fits the next prompt."""

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
    UnknownPlan,
    UnknownPolicy,
)
from burnish.memory.records.records import Record, Records
from burnish.memory.store import Appended, MemoryStore, connect
from burnish.memory.views.view import ContextView, ViewMessage

__all__ = [
    "Appended",
    "BadCursor",
    "BadStep",
    "BudgetTooSmall",
    "ContextView",
    "Forgotten",
    "IdConflict",
    "MemoryStore",
    "PolicyFailed",
    "Record",
    "RecordNotFound",
    "Records",
    "SessionNotFound",
    "Stale",
    "StaleRecord",
    "StoreError",
    "TooLarge",
    "UnknownPlan",
    "UnknownPolicy",
    "ViewMessage",
    "connect",
]
