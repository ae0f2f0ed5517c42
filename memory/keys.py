"""The names of memory's keys in Redis.

Everything of one session carries one hash tag, `{tenant:session}`, so a cluster keeps
it in one slot and a script may touch all of it. Tenant and session are
percent-encoded inside the tag: no choice of names can reach another tenant's keys.
"""

from dataclasses import dataclass
from urllib.parse import quote

PREFIX = "burnish:mem:"


def _name(text: str) -> str:
    return quote(text, safe="")


@dataclass(frozen=True)
class SessionKeys:
    tenant: str
    session: str

    @property
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
    def postings(self) -> str:
        """Prefix of the posting lists: one hash per term, step -> packed counts."""
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
        ]


@dataclass(frozen=True)
class TenantKeys:
    tenant: str

    @property
    def base(self) -> str:
        return f"{PREFIX}{{{_name(self.tenant)}}}:"

    def sessions_of(self, user: str) -> str:
        return f"{self.base}user:{_name(user)}:sessions"

    @property
    def records(self) -> str:
        return self.base + "rec:data"

    @property
    def record_meta(self) -> str:
        return self.base + "rec:meta"

    @property
    def record_postings(self) -> str:
        return self.base + "rec:t:"

    @property
    def record_order(self) -> str:
        return self.base + "rec:order"

    def records_of(self, user: str) -> str:
        return f"{self.base}rec:user:{_name(user)}"

    @property
    def records_gone(self) -> str:
        return self.base + "rec:gone"

    @property
    def record_fixed(self) -> list[str]:
        return [
            self.records,
            self.record_meta,
            self.base + "rec:terms",
            self.record_order,
            self.records_gone,
        ]
