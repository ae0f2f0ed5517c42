"""Compactor versions in the registry: a policy like any other, with small files of its own.

Version 1 is the shipped checkpoint and has no files. The base of every version is the list of
features, so a checkpoint for other features is refused. Left out: serving (serving/live/compactor.py)
and when to train (online.py).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.learner.compactor.gate import CompactorGateReport
from burnish.learner.compactor.network import Network, save
from burnish.memory.compaction import POLICY, SHIPPED, Scorer, fingerprint
from burnish.serving.registry import ADAPTER_FILES, BaseMismatch, PolicyRegistry, PolicyVersion

CONFIG, WEIGHTS = ADAPTER_FILES


def base_sha256() -> str:
    """The base of every version: a digest of the features' names."""
    return hashlib.sha256(fingerprint().encode()).hexdigest()


def champion(registry: PolicyRegistry, cache: Path) -> tuple[PolicyVersion, Scorer]:
    """The version to serve and to learn on; registers the shipped one the first time."""
    found = registry.champion(POLICY) or registry.ensure_base(
        POLICY, SHIPPED, base_sha256(), kind=POLICY
    )
    if found.base_sha256 != base_sha256():
        raise BaseMismatch(f"{found.ref} reads other features than this compactor")
    return found, load(registry, found, cache)


def load(registry: PolicyRegistry, version: PolicyVersion, cache: Path) -> Scorer:
    """Raises RegistryError, ScorerError."""
    folder = registry.fetch(version, cache)
    return Scorer.load(folder / WEIGHTS if folder else SHIPPED, version.ref)


def register(
    registry: PolicyRegistry,
    network: Network,
    *,
    parent: int,
    lineage: Mapping[str, Any],
    report: CompactorGateReport,
) -> PolicyVersion:
    """Register a version; promote it if the gate passed it and the champion is still its parent."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save(network, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps({"kind": POLICY, "features": fingerprint()}))
        version = registry.register(
            POLICY,
            folder,
            parent=parent,
            lineage=lineage,
            gate_report=report.model_dump(mode="json"),
            metrics={f"score_at_{share}": score for share, score in report.score.items()},
        )
    if report.passed and registry.champion_version(POLICY) == parent:
        return registry.promote(POLICY, version.version)
    return version


def ship(trained: Path, to: Path = SHIPPED) -> None:
    """Make a trained checkpoint the one that comes with Burnish. Raises ScorerError."""
    Scorer.load(trained)
    shutil.copyfile(trained, to)
