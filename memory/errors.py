"""Memory's errors. Every message says what the caller can do about it.

StoreError
|-- BadStep (ValueError)          a step or record that cannot be stored as sent
|   `-- TooLarge                  ... because of its size
|-- BadCursor (ValueError)        not a cursor, or one that names no step here
|-- BudgetTooSmall (ValueError)   the floor alone exceeds the budget
|-- IdConflict (ValueError)       this id was used for something else
|-- Stale (ValueError)            something changed since the version this was meant for
|   `-- StaleRecord               ... a record; says at which version it is
|-- UnknownPolicy (LookupError)
|-- UnknownPlan (LookupError)      a plan or summary node that is not, or no longer, there
|-- PolicyFailed                   a part of the served model that a policy needs did not answer
|-- SessionNotFound (LookupError)
|-- RecordNotFound (LookupError)
|-- TurnNotFound (LookupError)
`-- Forgotten (LookupError)       erased on request; it does not come back
"""


class StoreError(Exception):
    """Root of memory's errors."""


class BadStep(StoreError, ValueError):
    """A step or record that cannot be stored as sent."""


class TooLarge(BadStep):
    """A step, record or batch above the size the store takes in one piece."""


class BadCursor(StoreError, ValueError):
    """A cursor that is malformed or names no step of the session."""


class BudgetTooSmall(StoreError, ValueError):
    """The floor does not fit; `floor` is the smallest budget that works."""

    def __init__(self, floor: int, budget: int) -> None:
        super().__init__(
            f"budget {budget} is below the session's floor of {floor} tokens (system and task steps, "
            "pins, the newest exchange in its shortest form): raise the budget or unpin steps"
        )
        self.floor = floor
        self.budget = budget


class IdConflict(StoreError, ValueError):
    """An id that was used before with different content."""


class Stale(StoreError, ValueError):
    """The session changed since the version this was meant for: read it again."""


class StaleRecord(Stale):
    """A write that expected another version; `version` is the one there is, 0 for none."""

    def __init__(self, record_id: str, version: int, expected: int) -> None:
        super().__init__(
            f"record {record_id!r} is at version {version}, not {expected}: "
            "read it again, apply your change to that, and send its version"
        )
        self.version = version


class UnknownPolicy(StoreError, LookupError):
    """No compaction policy of this name here."""


class UnknownPlan(StoreError, LookupError):
    """A plan or summary node that is not, or no longer, there."""


class PolicyFailed(StoreError):
    """A part of the served model that a policy needs (embedder, summariser) did not answer.

    The injected part raises this; the compaction then does without it.
    """


class SessionNotFound(StoreError, LookupError):
    """No step was ever appended to this session."""


class RecordNotFound(StoreError, LookupError):
    """No such record."""


class TurnNotFound(StoreError, LookupError):
    """No such turn, or not any more."""


class Forgotten(StoreError, LookupError):
    """Erased on request: the tombstone keeps late retries from bringing it back."""
