"""Compaction policies behind one interface (`base.py`), by name.

Those that work without a model are always there; those that need an embedder or a trained scorer
are added where the store is set up.
"""

from collections.abc import Iterable, Mapping

from burnish.memory.compaction.policies.base import CompactionPolicy
from burnish.memory.compaction.policies.bm25 import Bm25Policy
from burnish.memory.compaction.policies.clear_tools import ClearToolsPolicy
from burnish.memory.compaction.policies.recent import RecentPolicy
from burnish.memory.compaction.policies.rubric import RubricPolicy
from burnish.memory.compaction.policies.summary import SummaryPolicy
from burnish.memory.errors import UnknownPolicy


class CompactionPolicies:
    """By name; a later one replaces an earlier one of its name."""

    def __init__(self, extra: Iterable[CompactionPolicy] = ()) -> None:
        self._by_name: Mapping[str, CompactionPolicy] = {
            policy.name: policy
            for policy in (
                RecentPolicy(),
                ClearToolsPolicy(),
                Bm25Policy(),
                SummaryPolicy(),
                RubricPolicy(),
                *extra,
            )
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    def get(self, name: str) -> CompactionPolicy:
        """Raises UnknownPolicy, which lists those there are."""
        if name not in self._by_name:
            raise UnknownPolicy(f"no policy {name!r} here; known: {', '.join(sorted(self.names))}")
        return self._by_name[name]
