"""The part of `burnish repair` that is about versions: a champion has to have a whole adapter.

Damaged copies in the cache of serving are not looked at: it fetches them again by itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from burnish.serving.registry import PolicyRegistry


@dataclass(frozen=True)
class Finding:
    """What was found of one store, and what a repair did or would do."""

    store: str
    problem: str | None  # None: whole
    outcome: str = ""
    usable: bool = True  # whether the service can start with it now


def repair_adapters(folder: Path, *, dry_run: bool) -> Iterator[Finding]:
    """A champion that is lost, or whose adapter is not what was registered, gives way to its last
    whole ancestor, or else to the newest whole version."""
    from burnish.serving.registry import PolicyRegistry, RegistryError, signing_keys

    uri, keys = f"sqlite:///{folder}/mlflow/mlflow.db", signing_keys(folder)
    registry = PolicyRegistry(uri, who="repair", keys=keys)
    try:
        for policy in registry.policies():
            yield _champion(registry, policy, dry_run)
    except RegistryError as error:
        yield Finding("mlflow", str(error), "the registry could not be read", usable=False)


def _champion(registry: PolicyRegistry, policy: str, dry_run: bool) -> Finding:
    champion = registry.champion_version(policy)
    first_problem = None if champion else "it has no champion"
    for number in _candidates(registry, policy, champion):
        problem = _problem(registry, policy, number)
        if problem is not None:
            first_problem = first_problem or problem
            continue
        if first_problem is None:
            return Finding(f"{policy}@{number}", None)
        if not dry_run:
            registry.promote(policy, number)
        became = f"{policy}@{number} {'would become' if dry_run else 'is'} champion"
        outcome = f"{became}; all files stay where they are"
        return Finding(f"{policy}@{champion or '?'}", first_problem, outcome)
    return Finding(policy, first_problem or "it has no version", "none is whole", usable=False)


def _candidates(registry: PolicyRegistry, policy: str, champion: int | None) -> Iterator[int]:
    parents = {version.version: version.parent for version in registry.versions(policy)}
    line = champion
    while line is not None:
        yield line
        line = parents.pop(line, None)
    yield from sorted(parents, reverse=True)


def _problem(registry: PolicyRegistry, policy: str, number: int) -> str | None:
    """Why a version cannot be served; None if it can."""
    from burnish.serving.registry import RegistryError

    with tempfile.TemporaryDirectory(prefix="burnish-repair-") as scratch:
        try:
            registry.fetch(registry.get(policy, number), Path(scratch))
        except (RegistryError, OSError) as error:
            return str(error)
    return None
