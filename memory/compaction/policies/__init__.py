"""Compaction policies behind one interface (`base.py`), by name.

Those that work without a model are always there; whoever wires the store adds the others: those
that need an embedder or a trained scorer.
"""

from collections.abc import Iterable, Mapping

from burnish.memory.compaction.policies.base import Policy
from burnish.memory.compaction.policies.bm25 import Bm25
from burnish.memory.compaction.policies.clear_tools import ClearTools
from burnish.memory.compaction.policies.recent import Recent
from burnish.memory.compaction.policies.summary import Summary
from burnish.memory.errors import UnknownPolicy


class Policies:
    """By name; a later one replaces an earlier one of its name."""

    def __init__(self, extra: Iterable[Policy] = ()) -> None:
        self._by_name: Mapping[str, Policy] = {
            policy.name: policy for policy in (Recent(), ClearTools(), Bm25(), Summary(), *extra)
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    def get(self, name: str) -> Policy:
        """Raises UnknownPolicy, which lists those there are."""
        if name not in self._by_name:
            raise UnknownPolicy(f"no policy {name!r} here; known: {', '.join(sorted(self.names))}")
        return self._by_name[name]
