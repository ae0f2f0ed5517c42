"""Where policy versions are kept: MLflow's model registry, read and written in our words.

A policy is a registered model, a version its model version; adapter, lineage and gate report are
artifacts of the run behind it. Version 1 is the frozen base and has no adapter. `champion`,
`challenger` and `previous` are MLflow aliases, so that a person may move them in MLflow's own
page; what each move was, and who made it, is kept in tags of the registered model.

Left out: pickles (two named files are all that is ever fetched) and polling (live/policies.py).
"""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from burnish.feedback.audit import AuditLog
from burnish.feedback.keyring import Keyring
from burnish.serving.registry import moves, pauses
from burnish.serving.registry.canaries import CHALLENGER, Canaries
from burnish.serving.registry.errors import (
    BaseMismatch,
    HashMismatch,
    NothingToRollBack,
    NotOurs,
    NotSigned,
    UnknownVersion,
)
from burnish.serving.registry.mlflow_store import MlflowStore
from burnish.serving.registry.model_store import ModelStore, ModelVersion
from burnish.serving.registry.signatures import Keys, is_signed, sign
from burnish.serving.registry.versions import (
    ADAPTER_FILES,
    Move,
    Overview,
    Pause,
    PolicyVersion,
    adapter_sha256,
    matches,
)

log = logging.getLogger(__name__)

CHAMPION, PREVIOUS = "champion", "previous"

CHAT = "true"  # the tag's value from when chat was the only kind
_IS_POLICY, _KIND = "burnish.policy", "burnish.kind"
_SIGNATURE = "signature"
_FIRST_VERSION_WAIT_S = 10.0


def prepare(mlflow_uri: str, artifact_root: str | None = None) -> None:
    """Create the registry's database once, before processes start that would race to do it."""
    MlflowStore(mlflow_uri, artifact_root).experiment_id()


class PolicyRegistry:
    """One registry at `mlflow_uri` (SQLite file or server). Calls block: use a thread.

    `artifact_root` matters for a database only, a server has its own; beside SQLite by default.
    `keys` sign what is registered, and nothing that they did not sign is fetched (signatures.py). Moves of
    aliases and what is done to signatures go to the `audit` log too.
    """

    def __init__(
        self,
        mlflow_uri: str,
        artifact_root: str | None = None,
        who: str | None = None,
        *,
        keys: Keys,
        audit: AuditLog | None = None,
    ):
        self.who = who or getpass.getuser()
        self._keys, self._audit = keys, audit
        self._store: ModelStore = MlflowStore(mlflow_uri, artifact_root)

    def ensure_base(
        self, policy: str, model_path: Path | str, model_sha256: str, *, kind: str = CHAT
    ) -> PolicyVersion:
        """Version 1 of `policy`: made, and made champion, by the first caller; then only checked.

        Only those of kind `CHAT` are listed by `policies`, and so served as models.
        """
        self._signing()  # from here on versions are signed: before anybody else could add one
        if not self._store.create_model(policy, {_IS_POLICY if kind == CHAT else _KIND: kind}):
            found = self._await_first_version(policy)
            if found is not None:
                return _checked_base(found, model_sha256)
        base = {"model": Path(model_path).name, "sha256": model_sha256}
        tags = {"base_sha256": model_sha256, "kind": "base"}
        version = self._store.create_version(policy, {"base.json": base}, None, tags, {})
        self._record(policy, Move(time.time(), self.who, "start", None, version))
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
        """A new version with this adapter, signed. It is not served until an alias names it."""
        draft = PolicyVersion(
            policy=policy,
            version=0,  # the registry gives the number; the signature holds without it
            parent=parent,
            sha256=adapter_sha256(adapter_dir),
            base_sha256=self.get(policy, parent).base_sha256,
            created_at=time.time(),
            lineage=lineage,
            gate_report=gate_report,
        )
        tags = {**_tags(draft), _SIGNATURE: sign(self._signing(), draft)}
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

    def promote(
        self, policy: str, version: int, *, who: str | None = None, why: str = ""
    ) -> PolicyVersion:
        """Make `version` champion; the old champion becomes previous."""
        return self._move_champion(policy, version, "promote", who, why)

    def rollback(
        self, policy: str, *, who: str | None = None, served: Sequence[int] = (), why: str = ""
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
                return self._move_champion(policy, version, "rollback", who, why)
            except UnknownVersion:  # deleted meanwhile
                continue
        raise NothingToRollBack(f"policy '{policy}' has no previous version to go back to")

    def set_alias(self, policy: str, alias: str, version: int | None) -> None:
        """Point an alias (say, challenger) at a version; None removes it. Champion: use promote."""
        if alias == CHAMPION:
            raise ValueError("the champion is moved by promote or rollback, which leave a trace")
        self._note(alias, f"{policy}@{version}" if version else policy)
        if version is not None:
            self._store.set_alias(policy, alias, version)
        elif self._store.alias(policy, alias) is not None:
            self._store.drop_alias(policy, alias)

    def pause(self, policy: str, *, who: str | None = None, why: str = "") -> Pause:
        """Let no update promote anything until `resume`. Raises UnknownVersion."""
        made = Pause(time.time(), who or self.who, why)
        pauses.put(self._store, policy, made)
        self._note("pause", policy, why, who=who)
        return made

    def resume(self, policy: str, *, who: str | None = None, why: str = "") -> bool:
        """Let updates promote again; whether they were kept from it."""
        if self.paused(policy) is None:
            return False
        pauses.lift(self._store, policy)
        self._note("resume", policy, why, who=who)
        return True

    def paused(self, policy: str) -> Pause | None:
        """None while it is not, and where there is no such policy yet."""
        with contextlib.suppress(UnknownVersion):
            return pauses.read(self._store.model(policy).tags)
        return None

    def note_moves(self, policy: str) -> Move | None:
        """Record a champion that was moved elsewhere; returns the move, None if there was none."""
        champion = self._store.alias(policy, CHAMPION)
        found = None if champion is None else moves.moved_outside(self._store, policy, champion)
        if found is None:
            return None
        key, move = found
        if move.before is not None:
            self._store.set_alias(policy, PREVIOUS, move.before)
        self._record(policy, move, key=key)
        return move

    @property
    def canaries(self) -> Canaries:
        """What share of users the challengers answer."""
        return Canaries(self._store, self._note)

    def champion(self, policy: str) -> PolicyVersion | None:
        """The version to serve; None when the policy or its champion does not exist."""
        version = self._store.alias(policy, CHAMPION)
        return None if version is None else self.get(policy, version)

    def champion_version(self, policy: str) -> int | None:
        """Only its number: one indexed read, cheap enough to poll."""
        return self._store.alias(policy, CHAMPION)

    def challenger_version(self, policy: str) -> int | None:
        """Of the version that is tried on a share of users; likewise."""
        return self._store.alias(policy, CHALLENGER)

    def get(self, policy: str, version: int) -> PolicyVersion:
        """Raises UnknownVersion."""
        return self._read(self._store.version(policy, version), self._store.model(policy).aliases)

    def versions(self, policy: str, latest: int | None = None) -> list[PolicyVersion]:
        """All versions, or the `latest` so many, oldest first; a long lineage is left to `get`, which downloads it.

        Left out are those whose tags cannot be read: they are not ours.
        """
        return self._versions(policy, self._store.model(policy).aliases, latest)

    def policies(self) -> list[str]:
        """Names of the registered models that are chat policies of ours."""
        return self._store.models(_IS_POLICY)

    def history(self, policy: str) -> list[Move]:
        """How the champion moved, oldest first."""
        return moves.history(self._store.model(policy).tags)

    def overview(self, policy: str, latest: int | None = None) -> Overview:
        """`versions`, `history` and `paused` from one reading of the model, which is most of what they take."""
        model = self._store.model(policy)
        return Overview(
            self._versions(policy, model.aliases, latest),
            moves.history(model.tags),
            pauses.read(model.tags),
        )

    def fetch(self, version: PolicyVersion, into: Path) -> Path | None:
        """The adapter's folder under `into`, verified; None for the base.

        `version` is what `get` gave. Raises NotSigned, HashMismatch.
        """
        if version.sha256 is None:
            return None
        if not is_signed(self._signing(), version):
            raise NotSigned(
                f"{version.ref} is not signed by this service's learner; if you brought it and"
                f" trust it: burnish sign {version.ref}"
            )
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

    def delete_adapter(self, policy: str, version: int) -> None:
        """Delete a version's adapter for good; its number, lineage and report stay. Can be repeated. Raises
        UnknownVersion, and ValueError for one that serves."""
        if version in (self.champion_version(policy), self.challenger_version(policy)):
            raise ValueError(f"{policy}@{version} serves")
        if "sha256" in self._store.version(policy, version).tags:
            self._store.delete_files(policy, version)
            self._note("delete adapter", f"{policy}@{version}", "it held erased data")

    def drop_aliases(self, policy: str, versions: Collection[int]) -> None:
        """Let no alias but the champion's name one of these."""
        for alias, version in self._store.model(policy).aliases.items():
            if version in versions and alias != CHAMPION:
                self._store.drop_alias(policy, alias)

    def sign(self, policy: str, version: int) -> PolicyVersion:
        """Vouch for a version that somebody else brought, as it lies in the registry now.

        One that was registered without our tags gets them: its adapter's hash, and the policy's
        base. Raises UnknownVersion, HashMismatch.
        """
        found = self.get(policy, version)
        with tempfile.TemporaryDirectory() as scratch:
            self._store.download(policy, version, ADAPTER_FILES, Path(scratch))
            sha256 = adapter_sha256(Path(scratch))
        if found.sha256 not in (None, sha256):
            raise HashMismatch(f"{found.ref}: the adapter's sha256 is not the registered one")
        base_sha256 = found.base_sha256 or self.get(policy, 1).base_sha256
        self._put_signature(self._signing(), replace(found, sha256=sha256, base_sha256=base_sha256))
        self._note("sign", found.ref)
        return self.get(policy, version)

    def rotate_signing_key(self) -> int:
        """Replace the secret, and every good signature with it; how many. Can be repeated."""
        keyring = self._keys.rotate()
        versions = chain.from_iterable(map(self._with_adapter, self._names()))
        signed = [version for version in versions if is_signed(keyring, version)]
        for version in signed:
            self._put_signature(keyring, version)
        self._keys.drop_retired()
        self._note("rotate signing key")
        return len(signed)

    def _signing(self) -> Keyring:
        return self._keys.read(before_use=self._adopt)

    def _adopt(self, keyring: Keyring) -> None:
        """Trust on first use: sign what was served before versions were signed."""
        adopted = []
        for policy in self._names():
            served = {move.after for move in self.history(policy)}
            numbers = served | set(self._store.model(policy).aliases.values())
            adopted += [v for v in self._with_adapter(policy) if v.version in numbers]
        for version in adopted:
            self._put_signature(keyring, version)
        if adopted:
            log.warning(
                "trusting and signing the versions served before versions were signed: %s",
                ", ".join(version.ref for version in adopted),
            )

    def _names(self) -> list[str]:
        """All policies of ours, those that are no models to chat with too."""
        return sorted({*self._store.models(_IS_POLICY), *self._store.models(_KIND)})

    def _versions(
        self, policy: str, aliases: Mapping[str, int], latest: int | None
    ) -> list[PolicyVersion]:
        versions = []
        for stored in self._store.versions(policy, latest):
            with contextlib.suppress(NotOurs):
                versions.append(self._read(stored, aliases, fetch=False))
        return sorted(versions, key=lambda version: version.version)

    def _with_adapter(self, policy: str) -> Iterator[PolicyVersion]:
        """The policy's versions that have one, with their documents."""
        aliases = self._store.model(policy).aliases
        stored_versions = self._store.versions(policy)
        for stored in sorted(stored_versions, key=lambda version: int(version.version)):
            with contextlib.suppress(NotOurs):
                if "sha256" in stored.tags:
                    yield self._read(stored, aliases)

    def _put_signature(self, keyring: Keyring, version: PolicyVersion) -> None:
        tags = {**_tags(version), _SIGNATURE: sign(keyring, version)}
        for key, value in tags.items():
            self._store.set_version_tag(version.policy, version.version, key, value)

    def _record(self, policy: str, move: Move, why: str = "", key: str | None = None) -> None:
        moves.record(self._store, policy, move, key)
        before = {} if move.before is None else {"before": f"{policy}@{move.before}"}
        self._note(move.what, f"{policy}@{move.after}", why, before, move.who)

    def _note(
        self,
        what: str,
        about: str = "",
        why: str = "",
        details: Mapping[str, Any] | None = None,
        who: str | None = None,
    ) -> None:
        if self._audit is None:
            return
        try:
            self._audit.append(who or self.who, what, about, why, details)
        except OSError as error:  # a full disk costs records, not the way back to an older version
            log.error("the audit log does not take '%s %s': %s", what, about, error)

    def _move_champion(
        self, policy: str, version: int, what: str, who: str | None, why: str
    ) -> PolicyVersion:
        self._store.version(policy, version)  # raises UnknownVersion before anything moves
        before = self._store.alias(policy, CHAMPION)
        if before != version:
            # The record first: a poller that sees the alias must find out who moved it.
            self._record(policy, Move(time.time(), who or self.who, what, before, version), why)
            if before is not None:
                self._store.set_alias(policy, PREVIOUS, before)
            self._store.set_alias(policy, CHAMPION, version)
        if self._store.alias(policy, CHALLENGER) == version:
            self._store.drop_alias(policy, CHALLENGER)
        return self.get(policy, version)

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
        try:
            parent, metrics = int(tags.get("parent", 0)), json.loads(tags.get("metrics", "{}"))
        except ValueError as error:  # tags that somebody else wrote
            raise NotOurs(f"{found.name}@{number}: its tags are not ours") from error
        return PolicyVersion(
            policy=found.name,
            version=number,
            parent=parent or None,
            sha256=tags.get("sha256"),
            base_sha256=tags.get("base_sha256", ""),
            created_at=(found.creation_timestamp or time.time() * 1000) / 1000,
            aliases=tuple(sorted(alias for alias, v in aliases.items() if v == number)),
            lineage=self._store.document(found, "lineage.json", fetch) or {},
            gate_report=self._store.document(found, "gate.json", fetch),
            metrics=metrics,
            signature=tags.get(_SIGNATURE),
        )


def _tags(version: PolicyVersion) -> dict[str, str]:
    """What a version with an adapter is recognised by."""
    parent = {} if version.parent is None else {"parent": str(version.parent)}
    hashes = {"sha256": str(version.sha256), "base_sha256": version.base_sha256}
    return {**hashes, **parent, "kind": "adapter"}


def _checked_base(base: PolicyVersion, model_sha256: str) -> PolicyVersion:
    if base.base_sha256 != model_sha256:
        raise BaseMismatch(
            f"policy '{base.policy}' stands on another base model ({base.base_sha256[:12]}... is"
            f" registered, {model_sha256[:12]}... is loaded): its versions would not fit"
        )
    return base
