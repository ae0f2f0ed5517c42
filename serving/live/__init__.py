"""What this process serves: policies that follow the registry's champions, the reward models that choose
among their answers, and the compactor.

`LivePolicies.acquire` gives a `VersionLease` on the version a client names; `LiveCompactor` keeps
memory's learned compaction policy on its champion, `LiveRewards` what the learner publishes between versions.
"""

from burnish.serving.live.adapters import ServedVersion
from burnish.serving.live.compactor import LiveCompactor
from burnish.serving.live.errors import UnknownModel, VersionUnavailable
from burnish.serving.live.leases import VersionLease
from burnish.serving.live.policies import LivePolicies
from burnish.serving.live.rewards import LiveRewards, ServedReward
from burnish.serving.live.status import PolicyStatus

__all__ = [
    "LiveCompactor",
    "LivePolicies",
    "LiveRewards",
    "PolicyStatus",
    "ServedReward",
    "ServedVersion",
    "UnknownModel",
    "VersionLease",
    "VersionUnavailable",
]
