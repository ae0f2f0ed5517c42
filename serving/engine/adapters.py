"""Which adapter versions are resident, in which slot, and how many requests still use them.

Pure bookkeeping; the engine guards it with its lock and moves the weights.
"""

from __future__ import annotations

from burnish.serving.engine.types import UnknownAdapter


class Adapters:
    """Names -> slots. A retired slot stays taken until its last request unpins it."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}  # what requests may name
        self._reserved: set[str] = set()  # being loaded
        self._users: dict[int, int] = {}  # slot -> requests; also marks the slot as taken
        self._retired: set[int] = set()
        self._weights_ids: dict[int, int] = {}  # slot -> id of its weights, never reused
        self._loads = 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._slots)

    def check(self, name: str | None) -> None:
        """UnknownAdapter unless requests may use `name`; None is the base."""
        if name is not None and name not in self._slots:
            raise UnknownAdapter(f"no adapter {name!r} is resident")

    def reserve(self, name: str) -> int:
        """A free slot for a new name; ValueError if the name is taken."""
        if name in self._slots or name in self._reserved:
            raise ValueError(f"adapter {name!r} is resident already; versions are never replaced")
        slot = next(s for s in range(1, len(self._users) + 2) if s not in self._users)
        self._users[slot] = 0
        self._loads += 1
        self._weights_ids[slot] = self._loads
        self._reserved.add(name)
        return slot

    def publish(self, name: str, slot: int) -> None:
        """The weights are in place: requests may use the name."""
        self._reserved.discard(name)
        self._slots[name] = slot

    def give_up(self, name: str, slot: int) -> None:
        """The weights could not be put in place: name and slot are free again."""
        self._reserved.discard(name)
        if name not in self._slots:
            self._users.pop(slot, None)

    def retire(self, name: str) -> int | None:
        """Requests may no longer use the name; its slot if no request uses it, to be dropped now."""
        self.check(name)
        slot = self._slots.pop(name)
        if self._users[slot]:
            self._retired.add(slot)
            return None
        return slot

    def release(self, slot: int) -> None:
        """The slot's weights are gone; it may be reserved again."""
        self._retired.discard(slot)
        del self._users[slot]

    def pin(self, name: str | None) -> tuple[int, int]:
        """Slot of a name for one more request, and the id of its weights; (0, 0) is the base."""
        self.check(name)
        if name is None:
            return 0, 0
        slot = self._slots[name]
        self._users[slot] += 1
        return slot, self._weights_ids[slot]

    def unpin(self, slot: int) -> bool:
        """One request fewer; whether the slot is retired and must be dropped now."""
        if slot == 0:
            return False
        self._users[slot] -= 1
        return slot in self._retired and self._users[slot] == 0
