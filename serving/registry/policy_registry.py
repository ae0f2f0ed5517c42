"""Where policy versions are kept: MLflow's model registry, read and written in our words.

A policy is a registered model, a version its model version; adapter, lineage and gate report are
artifacts of the run behind it. Version 1 is the frozen base and has no adapter. `champion`,
`challenger` and `previous` are MLflow aliases, so that a person may move them in MLflow's own
page; what each move was, and who made it, is kept in tags of the registered model.

Left out: pickles (two named files are all that is ever fetched) and polling (live/policies.py).
"""

from __future__ import annotations

import getpass
import hashlib
import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from burnish.serving.registry.errors import (
    BaseMismatch,
    HashMismatch,
    NothingToRollBack,
    UnknownVersion,
)
from burnish.serving.registry.mlflow_store import MlflowStore
from burnish.serving.registry.model_store import ModelStore, ModelVersion
from burnish.serving.registry.versions import (
    ADAPTER_FILES,
    Move,
    PolicyVersion,
    adapter_sha256,
    matches,
)

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
OUTSIDE = "outside"  # who moved an alias without us; MLflow does not say

CHAT = "true"  # the tag's value from when chat was the only kind
_IS_POLICY, _KIND = "burnish.policy", "burnish.kind"
_MOVE = "burnish.move."
_MOVES_KEPT = 500
_FIRST_VERSION_WAIT_S = 10.0


def prepare(mlflow_uri: str, artifact_root: str | None = None) -> None:
    """Create the registry's database once, before processes start that would race to do it."""
    MlflowStore(mlflow_uri, artifact_root).experiment_id()


class PolicyRegistry:
    """One registry at `mlflow_uri` (SQLite file or server). Calls block: use a thread.

    `artifact_root` matters for a database only, a server has its own; beside SQLite by default.
    """

    def __init__(self, mlflow_uri: str, artifact_root: str | None = None, who: str | None = None):
        self.who = who or getpass.getuser()
        self._store: ModelStore = MlflowStore(mlflow_uri, artifact_root)

    def ensure_base(
        self, policy: str, model_path: Path | str, model_sha256: str, *, kind: str = CHAT
    ) -> PolicyVersion:
        """Version 1 of `policy`: made, and made champion, by the first caller; then only checked.

        Only those of kind `CHAT` are listed by `policies`, and so served as models.
        """
        if not self._store.create_model(policy, {_IS_POLICY if kind == CHAT else _KIND: kind}):
            found = self._await_first_version(policy)
            if found is not None:
                return _checked_base(found, model_sha256)
        base = {"model": Path(model_path).name, "sha256": model_sha256}
        tags = {"base_sha256": model_sha256, "kind": "base"}
        version = self._store.create_version(policy, {"base.json": base}, None, tags, {})
        self._record_move(policy, Move(time.time(), self.who, "start", None, version))
        self._store.set_alias(policy, CHAMPION, version)
        return self.get(policy, version)

    def register(
        self,
        policy: str,
        adapter_dir: Path,
        *,
        parent: int,
        lineage: Mapping[str, Any],
        gate_report: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> PolicyVersion:
        """A new version with this adapter. It is not served until an alias names it."""
        tags = {
            "sha256": adapter_sha256(adapter_dir),
            "base_sha256": self.get(policy, parent).base_sha256,
            "parent": str(parent),
            "kind": "adapter",
        }
        documents = {"lineage.json": lineage}
        if gate_report is not None:
            documents["gate.json"] = gate_report
        with tempfile.TemporaryDirectory() as scratch:
            for name in ADAPTER_FILES:  # whatever else lies in the folder stays out
                shutil.copyfile(adapter_dir / name, Path(scratch) / name)
            version = self._store.create_version(
                policy, documents, Path(scratch), tags, metrics or {}
            )
        return self.get(policy, version)

    def promote(self, policy: str, version: int, *, who: str | None = None) -> PolicyVersion:
        """Make `version` champion; the old champion becomes previous."""
        return self._move_champion(policy, version, "promote", who)

    def rollback(
        self, policy: str, *, who: str | None = None, served: Sequence[int] = ()
    ) -> PolicyVersion:
        """Back to the first of `served` that is not champion and still there: the versions that
        really answered, the latest first. Else to `previous`, which may never have. A second call
        undoes the first."""
        self.note_moves(policy)  # a champion set by hand has not updated `previous`
        champion = self._store.alias(policy, CHAMPION)
        for version in (*served, self._store.alias(policy, PREVIOUS)):
            if version is None or version == champion:
                continue
            try:
                return self._move_champion(policy, version, "rollback", who)
            except UnknownVersion:  # deleted meanwhile
                continue
        raise NothingToRollBack(f"policy '{policy}' has no previous version to go back to")

    def set_alias(self, policy: str, alias: str, version: int | None) -> None:
        """Point an alias (say, challenger) at a version; None removes it. Champion: use promote."""
        if alias == CHAMPION:
            raise ValueError("the champion is moved by promote or rollback, which leave a trace")
        if version is not None:
            self._store.set_alias(policy, alias, version)
        elif self._store.alias(policy, alias) is not None:
            self._store.drop_alias(policy, alias)

    def note_moves(self, policy: str) -> Move | None:
        """Record a champion that was moved elsewhere; returns the move, None if there was none.

        The tag's name follows from the move, so several observers write it only once.
        """
        champion = self._store.alias(policy, CHAMPION)
        moves = self._moves(policy)
        if champion is None or not moves or champion == moves[-1][1].after:
            return None
        key, last = moves[-1]
        move = Move(time.time(), OUTSIDE, "moved outside", last.after, champion)
        self._store.set_alias(policy, PREVIOUS, last.after)
        name = hashlib.sha256(f"{key} {champion}".encode()).hexdigest()[:12]
        self._record_move(policy, move, f"{_MOVE}outside-{name}")
        return move

    def champion(self, policy: str) -> PolicyVersion | None:
        """The version to serve; None when the policy or its champion does not exist."""
        version = self._store.alias(policy, CHAMPION)
        return None if version is None else self.get(policy, version)

    def champion_version(self, policy: str) -> int | None:
        """Only its number: one indexed read, cheap enough to poll."""
        return self._store.alias(policy, CHAMPION)

    def get(self, policy: str, version: int) -> PolicyVersion:
        """Raises UnknownVersion."""
        return self._read(self._store.version(policy, version), self._store.aliases(policy))

    def versions(self, policy: str) -> list[PolicyVersion]:
        """All versions, oldest first; a long lineage is left to `get`, which downloads it."""
        aliases = self._store.aliases(policy)
        versions = [self._read(one, aliases, fetch=False) for one in self._store.versions(policy)]
        return sorted(versions, key=lambda version: version.version)

    def policies(self) -> list[str]:
        """Names of the registered models that are chat policies of ours."""
        return self._store.models(_IS_POLICY)

    def history(self, policy: str) -> list[Move]:
        """How the champion moved, oldest first."""
        return [move for _, move in self._moves(policy)]

    def fetch(self, version: PolicyVersion, into: Path) -> Path | None:
        """The adapter's folder under `into`, verified; None for the base. Raises HashMismatch."""
        if version.sha256 is None:
            return None
        folder = into / version.ref
        if folder.exists():
            if matches(folder, version.sha256):
                return folder
            shutil.rmtree(folder)  # a damaged copy; the registry has the original
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".fetch-") as scratch:
            fresh = Path(scratch) / "adapter"
            fresh.mkdir()
            self._store.download(version.policy, version.version, ADAPTER_FILES, fresh)
            if not matches(fresh, version.sha256):
                raise HashMismatch(f"{version.ref}: the adapter's sha256 is not the registered one")
            fresh.rename(folder)
        return folder

    def _move_champion(
        self, policy: str, version: int, what: str, who: str | None
    ) -> PolicyVersion:
        self._store.version(policy, version)  # raises UnknownVersion before anything moves
        before = self._store.alias(policy, CHAMPION)
        if before != version:
            # The record first: a poller that sees the alias must find out who moved it.
            self._record_move(policy, Move(time.time(), who or self.who, what, before, version))
            if before is not None:
                self._store.set_alias(policy, PREVIOUS, before)
            self._store.set_alias(policy, CHAMPION, version)
        if self._store.alias(policy, CHALLENGER) == version:
            self._store.drop_alias(policy, CHALLENGER)
        return self.get(policy, version)

    def _record_move(self, policy: str, move: Move, key: str | None = None) -> None:
        key = key or f"{_MOVE}{int(move.at * 1000)}-{secrets.token_hex(2)}"
        self._store.set_tag(policy, key, json.dumps(asdict(move)))
        for old, _ in self._moves(policy)[:-_MOVES_KEPT]:
            self._store.drop_tag(policy, old)

    def _moves(self, policy: str) -> list[tuple[str, Move]]:
        tags = self._store.tags(policy)
        moves = [(k, Move(**json.loads(v))) for k, v in tags.items() if k.startswith(_MOVE)]
        return sorted(moves, key=lambda item: item[1].at)

    def _await_first_version(self, policy: str) -> PolicyVersion | None:
        """Another process may be between making the policy and its first version."""
        deadline = time.monotonic() + _FIRST_VERSION_WAIT_S
        while time.monotonic() < deadline:
            try:
                return self.get(policy, 1)
            except UnknownVersion:
                time.sleep(0.2)
        return None

    def _read(
        self, found: ModelVersion, aliases: Mapping[str, int], fetch: bool = True
    ) -> PolicyVersion:
        tags, number = found.tags, int(found.version)
        return PolicyVersion(
            policy=found.name,
            version=number,
            parent=int(tags["parent"]) if "parent" in tags else None,
            sha256=tags.get("sha256"),
            base_sha256=tags.get("base_sha256", ""),
            created_at=(found.creation_timestamp or time.time() * 1000) / 1000,
            aliases=tuple(sorted(alias for alias, v in aliases.items() if v == number)),
            lineage=self._store.document(found, "lineage.json", fetch) or {},
            gate_report=self._store.document(found, "gate.json", fetch),
            metrics=json.loads(tags.get("metrics", "{}")),
        )


def _checked_base(base: PolicyVersion, model_sha256: str) -> PolicyVersion:
    if base.base_sha256 != model_sha256:
        raise BaseMismatch(
            f"policy '{base.policy}' stands on another base model ({base.base_sha256[:12]}... is"
            f" registered, {model_sha256[:12]}... is loaded): its versions would not fit"
        )
    return base
