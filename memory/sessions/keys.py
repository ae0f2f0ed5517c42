"""The names of memory's keys in Redis.

Everything of one session carries one hash tag, `{tenant:session}`, so a cluster keeps
it in one slot and a script may touch all of it. Tenant and session are
percent-encoded inside the tag: no choice of names can reach another tenant's keys.
"""

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, unquote

PREFIX = "burnish:mem:"
DUE = PREFIX + "due"  # sessions with deletions, by when the first becomes final


def _name(text: str) -> str:
    return quote(text, safe="")


@dataclass(frozen=True)
class SessionKeys:
    tenant: str
    session: str

    @cached_property
    def base(self) -> str:
        return f"{PREFIX}{{{_name(self.tenant)}:{_name(self.session)}}}:"

    @property
    def meta(self) -> str:
        return self.base + "meta"

    @property
    def log(self) -> str:
        return self.base + "log"

    @property
    def pins(self) -> str:
        return self.base + "pins"

    @property
    def open(self) -> str:
        return self.base + "open"

    @property
    def groups(self) -> str:
        return self.base + "groups"

    @property
    def plans(self) -> str:
        """Plan id -> its header, see plan.py."""
        return self.base + "plans"

    @property
    def unit_decisions(self) -> str:
        """Plan id -> what it decided on every unit, packed."""
        return self.base + "verdicts"

    @property
    def nodes(self) -> str:
        """Summary node id -> its text and the steps it was made from."""
        return self.base + "nodes"

    @property
    def changes(self) -> str:
        """A stream of everything but appends that changed the view; ids are versions."""
        return self.base + "changes"

    @property
    def deleted(self) -> str:
        """Step -> when its deletion becomes final; until then it can be undone."""
        return self.base + "deleted"

    @property
    def vectors(self) -> str:
        """Step -> its embedding, as earlier versions kept it; here so that erasing reaches it."""
        return self.base + "vectors"

    @property
    def lease(self) -> str:
        """Held by the one compaction that runs."""
        return self.base + "lease"

    @property
    def backoff(self) -> str:
        """Background passes without gain, and the log size at which to try again."""
        return self.base + "rest"

    @property
    def once(self) -> str:
        """Digest -> the step that is pinned for all steps that say the same, see append.lua."""
        return self.base + "once"

    @property
    def postings(self) -> str:
        """Prefix of the posting lists: one packed string per term, see append.lua."""
        return self.base + "t:"

    @property
    def fixed(self) -> list[str]:
        """The keys every script gets first, in the order the scripts unpack them."""
        return [
            self.meta,
            self.log,
            self.base + "ids",
            self.pins,
            self.open,
            self.groups,
            self.base + "terms",
            self.plans,
            self.unit_decisions,
            self.nodes,
            self.changes,
            self.deleted,
            self.vectors,
            self.backoff,
            self.once,
        ]


def due_member(keys: SessionKeys) -> str:
    return f"{_name(keys.tenant)}:{_name(keys.session)}"


def of_due_member(member: str) -> SessionKeys:
    tenant, _, session = member.partition(":")
    return SessionKeys(unquote(tenant), unquote(session))


@dataclass(frozen=True)
class TenantKeys:
    tenant: str

    @property
    def base(self) -> str:
        return f"{PREFIX}{{{_name(self.tenant)}}}:"

    def sessions_of(self, user: str) -> str:
        return f"{self.base}user:{_name(user)}:sessions"

    def files_of(self, user: str) -> str:
        """The memory tool's files of an end user: one hash, path -> content."""
        return f"{self.base}files:{_name(user)}"

    def turn(self, turn: str) -> str:
        return f"{self.base}turn:{_name(turn)}"

    def turns_of(self, owner: str) -> str:
        """The turns of an end user (`user:...`) or in a session (`session:...`), to erase them by."""
        return f"{self.base}turns:{_name(owner)}"

    @property
    def records(self) -> str:
        """Prefix of all that belongs to records; one row is `r:<number>` below it."""
        return self.base + "rec:"

    @property
    def record_meta(self) -> str:
        return self.records + "meta"

    @property
    def record_ids(self) -> str:
        return self.records + "ids"

    @property
    def record_order(self) -> str:
        return self.records + "order"

    @property
    def record_changes(self) -> str:
        return self.records + "changes"

    @property
    def record_fixed(self) -> list[str]:
        """The keys record.lua gets first, in the order it unpacks them."""
        gone = self.records + "gone"
        return [self.record_meta, self.record_ids, gone, self.record_order, self.record_changes]
